package nat

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// A guest pays for the protocols that it speaks.
func TestFlowsTakeMemoryForTheirOwnProtocolOnly(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ResolvConf = ""
	cfg.AllowHost = []spec.HostService{{Proto: netpkt.UDP, Port: 9}}
	p, err := New(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	p.shard.Worker, p.turn.RXFull = porttest.DeafWorker{}, true
	key := flowtable.Key{Guest: ipaddr.From(cfg.Guest), GuestPort: 1024, Remote: ipaddr.From(cfg.Gateway), RemotePort: 9, Proto: netpkt.UDP}
	f, _ := p.udp.Associate(&p.turn, &key, &shard.Packet{Packet: netpkt.Packet{L4: make([]byte, netpkt.UDPLen)}}, netpkt.UDPLen)
	require.NotNil(t, f)
	require.Zero(t, *p.udp.PeerOf(f))
	require.Panics(t, func() { p.tcp.StateOf(f) }, "there is no memory for connections")
	require.Panics(t, func() { p.ping.Newest(f) })
}

func TestThePoolIsTheEndOfTheNetwork(t *testing.T) {
	for network, want := range map[string]string{
		"10.0.2.0/24": "10.0.2.191 64", "10.0.2.32/27": "10.0.2.48 15", "10.0.0.0/8": "10.255.255.191 64",
	} {
		first, count := pool4(netip.MustParsePrefix(network))
		require.Equal(t, want, first.String()+" "+map[int]string{64: "64", 15: "15"}[count], network)
	}
}
