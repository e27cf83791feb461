package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/presence"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// shardHooks returns what the shard asks of the protocols.
func (p *Port) shardHooks() shard.Hooks {
	return shard.Hooks{
		Created: p.created,
		Closing: func(f *shard.Flow) { p.closing(&p.turn, f) }, Released: p.released, Evicted: p.evicted, Located: p.tcp.OnLocated,
		Misaddressed: func(t *shard.Turn, k shard.Packet, proto uint8) { p.strays.Misaddressed(t, &k, proto) },
	}
}

// Hooks returns what UDP asks of later parts.
func (p *Port) udpHooks() udp.Hooks {
	return udp.Hooks{
		DHCP:      func(t *shard.Turn, k shard.Packet, length int) { p.services.Handle4(t, &k, length) },
		DHCPv6:    func(t *shard.Turn, k shard.Packet, length int) { p.services.Handle6(t, &k, length) },
		Query:     func(t *shard.Turn, key flowtable.Key, k shard.Packet, length int) { p.names.Query(t, &key, &k, length) },
		Inspector: udp.InspectorHooks{Hold: p.quic.Hold, Datagram: p.quic.Datagram},
	}
}

// Hooks returns what TCP asks of later parts.
func (p *Port) tcpHooks() tcp.Hooks {
	return tcp.Hooks{
		Resolver: tcp.ResolverHooks{
			Connect: func(t *shard.Turn, key flowtable.Key, s tcp.Segment) bool { return p.names.Connect(t, &key, &s) },
			Take:    p.names.Take, Held: p.names.Held, Put: p.names.Put, Acknowledged: p.names.Acknowledged, IsComplete: p.names.IsComplete,
		},
		Inspector: p.inspectorHooks(),
		Judge:     func(f *shard.Flow) bool { return p.review.JudgeAgain(f, stats.EndTakenOver) },
		OnProbeReply: func(t *shard.Turn, key flowtable.Key, flags uint8, ack seqnum.Value) bool {
			return p.gates.OnProbeReply(t, &key, flags, ack)
		},
		OnGuestRefused: func(key flowtable.Key) { p.gates.OnGuestRefused(&key) },
		OnGuestClosed:  func(t *shard.Turn, key flowtable.Key) { p.gates.OnGuestClosed(t, &key) },
	}
}

// released lets a flow's protocol know that nobody can be looking at its record any more.
func (p *Port) released(f *shard.Flow) {
	if f.Key.Proto == netpkt.UDP {
		p.udp.OnReleased(f)
	}
}

// presenceHooks returns what is asked of other parts when the guest is gone.
func (p *Port) presenceHooks() presence.Hooks {
	return presence.Hooks{
		Lost: func() {
			p.assembly.Forget()
			p.fragments.Forget()
			p.names.Forget()
		},
		Dead: func() {
			p.guest.witness.Forget()
			p.services.FreeLeases()
			p.link.AdvertiseNever()
		},
		Drop: p.drop,
	}
}

// closing lets a flow's protocol know that it is about to end.
func (p *Port) closing(t *shard.Turn, f *shard.Flow) {
	p.ledger.Ended(f)
	p.policy.Opened(f.Index, "")
	switch f.Key.Proto {
	case netpkt.TCP:
		p.names.OnClosing(f)
		p.proof.OnClosing(f)
		p.tcp.OnClosing(f)
	case netpkt.UDP:
		p.quic.OnClosing(f)
		p.udp.OnClosing(t, f)
	}
}

// evicted ends a flow for the sake of another one.
func (p *Port) evicted(t *shard.Turn, f *shard.Flow) {
	if f.Key.Proto == netpkt.TCP {
		p.tcp.ResetEvicted(t, f)
	}
	p.drop(f, stats.EndEvicted)
}
