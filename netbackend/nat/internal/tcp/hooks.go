package tcp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Hooks are what TCP asks of later parts. None is called for each segment.
type Hooks struct {
	Resolver  ResolverHooks
	Inspector InspectorHooks
	Judge     func(*shard.Flow) bool // the policy is asked again; false tells that the flow is over
	// OnProbeReply is told of a segment without a connection, and reports whether it answers a gate's probe.
	OnProbeReply   func(t *shard.Turn, key flowtable.Key, flags uint8, ack seqnum.Value) bool
	OnGuestRefused func(key flowtable.Key)                // the guest has refused a client
	OnGuestClosed  func(t *shard.Turn, key flowtable.Key) // the guest has ended a connection
}

// ResolverHooks are what TCP asks of the name server, which is the other end of connections to it.
type ResolverHooks struct {
	// Connect is called for a SYN to the name server, which is to answer or refuse it.
	Connect func(t *shard.Turn, key flowtable.Key, s Segment) (retry bool)
	// Take takes up to n bytes that the guest has sent, and returns how many. Held returns how many it has, and how many it may have.
	Take func(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int) (taken int)
	Held func(f *shard.Flow) (held, most int)
	// Put writes up to n bytes for the guest to offset of iov, from a place on that is counted from the first byte that was not Acknowledged. It
	// returns how many there were.
	Put func(f *shard.Flow, iov []guestmem.Iovec, offset, place, n int) int
	// Acknowledged is told that the guest has n bytes more.
	Acknowledged func(t *shard.Turn, f *shard.Flow, n uint32)
	// IsComplete reports whether the stream to the guest ends at a place. guestEnded tells that the guest has ended its own.
	IsComplete func(f *shard.Flow, place int, guestEnded bool) bool
}
