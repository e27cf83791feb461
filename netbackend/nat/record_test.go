package nat

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/porttest"
)

// A guest pays for the protocols that it speaks.
func TestFlowsTakeMemoryForTheirOwnProtocolOnly(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ResolvConf = ""
	p, err := New(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	p.shard.Worker = porttest.DeafWorker{}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	key := flowtable.Key{Guest: ipaddr.From(cfg.Guest), GuestPort: 1024, RemotePort: 9, Proto: netpkt.UDP}
	f, _ := p.turn.CreateWith(&key, fd, shard.StateActive, 0, shard.ClassAssociations, p.udp.begin(udpFlow{via: 7}))
	require.NotNil(t, f)
	require.EqualValues(t, 7, p.udp.of(f).via)
	require.Panics(t, func() { p.tcp.conn(f) }, "there is no memory for connections")
	require.Panics(t, func() { p.ping.requests.At(f.Index) })
}

func TestThePoolIsTheEndOfTheNetwork(t *testing.T) {
	for network, want := range map[string]string{
		"10.0.2.0/24": "10.0.2.191 64", "10.0.2.32/27": "10.0.2.48 15", "10.0.0.0/8": "10.255.255.191 64",
	} {
		first, count := pool4(netip.MustParsePrefix(network))
		require.Equal(t, want, first.String()+" "+map[int]string{64: "64", 15: "15"}[count], network)
	}
}
