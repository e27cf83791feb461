package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// hooks are what the parts of the engine that know no protocol ask of those that do. All of them are set when the engine is made.
// None is called for each frame. What lives on the stack is passed by value: the compiler cannot know what they do with a pointer.
type hooks struct {
	closing      func(*flow)                          // a flow is about to end, for whatever reason
	released     func(*flow)                          // the record of a flow is about to be freed
	evicted      func(*turn, *flow)                   // a flow is to end for the sake of another one
	located      func()                               // an address of the guest was found that something waited for
	misaddressed func(t *turn, k packet, proto uint8) // a packet cannot be part of a conversation
}

// tcpHooks are what TCP asks of later parts. None is called for each segment.
type tcpHooks struct {
	resolver resolverHooks
	judge    func(*flow) bool // the policy is asked again; false tells that the flow is over
	// onProbeReply is told of a segment without a connection, and reports whether it answers a gate's probe.
	onProbeReply func(t *turn, key flowtable.Key, flags uint8, ack seqnum.Value) bool
	guestRefused func(key flowtable.Key)          // the guest has refused a client
	guestClosed  func(t *turn, key flowtable.Key) // the guest has ended a connection
}

// resolverHooks are what TCP asks of the relay for names about connections to the name server.
type resolverHooks struct {
	connect func(t *turn, key flowtable.Key, s segment) (retry bool)
	refused func(*turn, *flow) bool // the host's connect has failed; true tells that another resolver is asked
	silent  func(*turn, *flow)      // it takes long
	deliver func(t *turn, f *flow, iov []guestmem.Iovec, n int) bool
}

// udpHooks are what UDP asks of services that the guest reaches by datagrams. length is that of UDP header and payload.
type udpHooks struct {
	dhcp, dhcp6 func(t *turn, k packet, length int)
	query       func(t *turn, key flowtable.Key, k packet, length int) // to the name server
}

// shardHooks returns what the shard asks of the protocols.
func (p *Port) shardHooks() hooks {
	return hooks{
		closing: func(f *flow) { p.closing(&p.turn, f) }, released: p.released, evicted: p.evicted, located: p.tcp.located,
		misaddressed: func(t *turn, k packet, proto uint8) { p.misaddressed(t, &k, proto) },
	}
}

// udpHooks returns what UDP asks of later parts.
func (p *Port) udpHooks() udpHooks {
	return udpHooks{
		dhcp:  func(t *turn, k packet, length int) { p.services.dhcp(t, &k, length) },
		dhcp6: func(t *turn, k packet, length int) { p.services.dhcp6(t, &k, length) },
		query: func(t *turn, key flowtable.Key, k packet, length int) { p.names.query(t, &key, &k, length) },
	}
}

// tcpHooks returns what TCP asks of later parts.
func (p *Port) tcpHooks() tcpHooks {
	return tcpHooks{
		resolver: resolverHooks{
			connect: func(t *turn, key flowtable.Key, s segment) bool { return p.names.connectResolver(t, &key, &s) },
			refused: p.names.resolverRefused, silent: p.names.resolverSilent, deliver: p.names.deliverQueries,
		},
		judge: func(f *flow) bool { return p.judgeAgain(f, stats.EndTakenOver) },
		onProbeReply: func(t *turn, key flowtable.Key, flags uint8, ack seqnum.Value) bool {
			return p.gates.onProbeReply(t, &key, flags, ack)
		},
		guestRefused: func(key flowtable.Key) { p.gates.onGuestRefused(&key) },
		guestClosed:  func(t *turn, key flowtable.Key) { p.gates.onGuestClosed(t, &key) },
	}
}

// released lets a flow's protocol know that nobody can be looking at its record any more.
func (p *Port) released(f *flow) {
	if f.key.Proto == netpkt.UDP {
		p.udp.released(f)
	}
}

// closing lets a flow's protocol know that it is about to end.
func (p *Port) closing(t *turn, f *flow) {
	switch f.key.Proto {
	case netpkt.TCP:
		p.names.endStream(f)
	case netpkt.UDP:
		p.udp.leaveSocket(t, f)
	}
}

// evicted ends a flow for the sake of another one.
func (p *Port) evicted(t *turn, f *flow) {
	if f.key.Proto == netpkt.TCP {
		p.tcp.resetEvicted(t, f)
	}
	p.drop(f, stats.EndEvicted)
}
