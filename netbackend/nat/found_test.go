package nat

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// newRivals returns the first of two queue pairs of a guest, and a function by which the second one makes a flow.
func newRivals(t *testing.T) (p *Port, rival func(key *flowtable.Key)) {
	cfg := DefaultConfig()
	cfg.Queues, cfg.ResolvConf, cfg.Resolvers = 2, "", dns.Plain(netip.MustParseAddrPort("127.0.0.1:9"))
	cfg.AllowHost = []spec.HostService{{Proto: netpkt.UDP, Port: 9}, {Proto: netpkt.TCP, Port: 9}}
	ports, err := NewPairs(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, p := range ports {
			require.NoError(t, p.Close())
		}
	})
	return ports[0], func(key *flowtable.Key) {
		f, at := ports[1].shard.Flows.Create(key, ports[1].shard.Owner, func(uint32) {})
		require.Equal(t, shard.Here, at)
		t.Cleanup(func() { ports[1].shard.Flows.Remove(f) })
	}
}

// Between the look for a flow and the making of it another queue pair may make it. Then the guest's frame waits, as for a flow that
// was another pair's before: nothing is refused, and nothing is left of the attempt.
func TestAFrameWaitsForAFlowThatAnotherQueuePairHasJustMade(t *testing.T) {
	syn := &tcp.Segment{Segment: netpkt.Segment{Flags: netpkt.SYN, Seq: seqnum.From(1)}}
	datagram := &shard.Packet{Packet: netpkt.Packet{L4: make([]byte, netpkt.UDPLen)}}
	gateway := ipaddr.Endpoint{Addr: ipaddr.From(DefaultConfig().Gateway), Port: 9}
	server := ipaddr.Endpoint{Addr: ipaddr.From(DefaultConfig().DNS), Port: shard.DNSPort}
	for name, begin := range map[string]struct {
		proto uint8
		to    ipaddr.Endpoint
		fn    func(p *Port, key *flowtable.Key) (retry bool)
	}{
		"connection":                    {netpkt.TCP, gateway, func(p *Port, key *flowtable.Key) bool { return p.tcp.Connect(&p.turn, key, syn) }},
		"connection to the name server": {netpkt.TCP, server, func(p *Port, key *flowtable.Key) bool { return p.tcp.Connect(&p.turn, key, syn) }},
		"association": {netpkt.UDP, gateway, func(p *Port, key *flowtable.Key) bool {
			f, at := p.udp.Associate(&p.turn, key, datagram, netpkt.UDPLen)
			require.Nil(t, f)
			return at == shard.Elsewhere
		}},
		"association that shares a socket": {netpkt.UDP, gateway, func(p *Port, key *flowtable.Key) bool {
			f, at := p.udp.Share(&p.turn, key, gateway, shard.ClassAssociations)
			require.Nil(t, f)
			require.Zero(t, p.guest.udp.CountMappings())
			return at == shard.Elsewhere
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p, rival := newRivals(t)
			p.shard.Worker, p.turn.RXFull = porttest.DeafWorker{}, true
			key := flowtable.Key{
				Guest: ipaddr.From(p.cfg.Guest), GuestPort: 1024, Remote: begin.to.Addr, RemotePort: begin.to.Port, Proto: begin.proto,
			}
			rival(&key)
			require.True(t, begin.fn(p, &key))
			require.Zero(t, p.shard.Counters.ResetsSent)
			require.Zero(t, p.shard.Sockets())
			held, _ := p.guest.names.Streams()
			require.Zero(t, held)
		})
	}
}
