package tcp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Hooks are what TCP asks of later parts. None is called for each segment.
type Hooks struct {
	Resolver ResolverHooks
	Judge    func(*shard.Flow) bool // the policy is asked again; false tells that the flow is over
	// OnProbeReply is told of a segment without a connection, and reports whether it answers a gate's probe.
	OnProbeReply   func(t *shard.Turn, key flowtable.Key, flags uint8, ack seqnum.Value) bool
	OnGuestRefused func(key flowtable.Key)                // the guest has refused a client
	OnGuestClosed  func(t *shard.Turn, key flowtable.Key) // the guest has ended a connection
}

// ResolverHooks are what TCP asks of the relay for names about connections to the name server.
type ResolverHooks struct {
	Connect   func(t *shard.Turn, key flowtable.Key, s Segment) (retry bool)
	OnRefused func(*shard.Turn, *shard.Flow) bool // the host's connect has failed; true tells that another resolver is asked
	OnSilent  func(*shard.Turn, *shard.Flow)      // it takes long
	Deliver   func(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int) bool
}
