package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// tcpHooks are what TCP asks of later parts. None is called for each segment.
type tcpHooks struct {
	resolver resolverHooks
	judge    func(*shard.Flow) bool // the policy is asked again; false tells that the flow is over
	// onProbeReply is told of a segment without a connection, and reports whether it answers a gate's probe.
	onProbeReply func(t *shard.Turn, key flowtable.Key, flags uint8, ack seqnum.Value) bool
	guestRefused func(key flowtable.Key)                // the guest has refused a client
	guestClosed  func(t *shard.Turn, key flowtable.Key) // the guest has ended a connection
}

// resolverHooks are what TCP asks of the relay for names about connections to the name server.
type resolverHooks struct {
	connect func(t *shard.Turn, key flowtable.Key, s segment) (retry bool)
	refused func(*shard.Turn, *shard.Flow) bool // the host's connect has failed; true tells that another resolver is asked
	silent  func(*shard.Turn, *shard.Flow)      // it takes long
	deliver func(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int) bool
}

// udpHooks are what UDP asks of services that the guest reaches by datagrams. length is that of UDP header and payload.
type udpHooks struct {
	dhcp, dhcp6 func(t *shard.Turn, k shard.Packet, length int)
	query       func(t *shard.Turn, key flowtable.Key, k shard.Packet, length int) // to the name server
}

// shardHooks returns what the shard asks of the protocols.
func (p *Port) shardHooks() shard.Hooks {
	return shard.Hooks{
		Closing: func(f *shard.Flow) { p.closing(&p.turn, f) }, Released: p.released, Evicted: p.evicted, Located: p.tcp.located,
		Misaddressed: func(t *shard.Turn, k shard.Packet, proto uint8) { p.misaddressed(t, &k, proto) },
	}
}

// udpHooks returns what UDP asks of later parts.
func (p *Port) udpHooks() udpHooks {
	return udpHooks{
		dhcp:  func(t *shard.Turn, k shard.Packet, length int) { p.services.dhcp(t, &k, length) },
		dhcp6: func(t *shard.Turn, k shard.Packet, length int) { p.services.dhcp6(t, &k, length) },
		query: func(t *shard.Turn, key flowtable.Key, k shard.Packet, length int) { p.names.query(t, &key, &k, length) },
	}
}

// tcpHooks returns what TCP asks of later parts.
func (p *Port) tcpHooks() tcpHooks {
	return tcpHooks{
		resolver: resolverHooks{
			connect: func(t *shard.Turn, key flowtable.Key, s segment) bool { return p.names.connectResolver(t, &key, &s) },
			refused: p.names.resolverRefused, silent: p.names.resolverSilent, deliver: p.names.deliverQueries,
		},
		judge: func(f *shard.Flow) bool { return p.judgeAgain(f, stats.EndTakenOver) },
		onProbeReply: func(t *shard.Turn, key flowtable.Key, flags uint8, ack seqnum.Value) bool {
			return p.gates.onProbeReply(t, &key, flags, ack)
		},
		guestRefused: func(key flowtable.Key) { p.gates.onGuestRefused(&key) },
		guestClosed:  func(t *shard.Turn, key flowtable.Key) { p.gates.onGuestClosed(t, &key) },
	}
}

// released lets a flow's protocol know that nobody can be looking at its record any more.
func (p *Port) released(f *shard.Flow) {
	if f.Key.Proto == netpkt.UDP {
		p.udp.released(f)
	}
}

// closing lets a flow's protocol know that it is about to end.
func (p *Port) closing(t *shard.Turn, f *shard.Flow) {
	switch f.Key.Proto {
	case netpkt.TCP:
		p.names.endStream(f)
	case netpkt.UDP:
		p.udp.leaveSocket(t, f)
	}
}

// evicted ends a flow for the sake of another one.
func (p *Port) evicted(t *shard.Turn, f *shard.Flow) {
	if f.Key.Proto == netpkt.TCP {
		p.tcp.resetEvicted(t, f)
	}
	p.drop(f, stats.EndEvicted)
}
