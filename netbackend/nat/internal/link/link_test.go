package link

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/services/arp"
	"github.com/vringnet/vring/netbackend/services/ndp"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// linked is the link of a guest.
type linked struct {
	Layer
	*shardtest.Shard
}

func newLinked(t *testing.T, cfg Config) *linked {
	l := &linked{Shard: shardtest.New(t, 64)}
	nets := l.Nets
	gateway, dns := nets.V4.Gateway.Netip(), nets.V4.DNS.Netip()
	l.Layer.SetUp(cfg, &l.Turn.Shard, arp.New(l.Cfg.GatewayMAC, gateway, dns), ndp.New(ndp.Config{
		MAC: l.Cfg.GatewayMAC, Prefix: nets.V6.Prefix, DNS: []netip.Addr{nets.V6.DNS.Netip()}, LinkLocal: nets.LinkLocal.Netip(),
	}), new(atomic.Int64))
	return l
}

// request is an ARP request of the guest's, from one of its addresses, in a frame as the driver sends it.
func request(from, to string) []byte {
	b := make([]byte, vnet.HeaderLen+netpkt.EtherLen+28)
	frame := b[vnet.HeaderLen:]
	for i := range 6 {
		frame[i] = 0xff
	}
	hosts.PutMAC(frame[6:], shardtest.HostMAC())
	binary.BigEndian.PutUint16(frame[12:], netpkt.EtherARP)
	copy(frame[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	hosts.PutMAC(frame[22:], shardtest.HostMAC())
	a, z := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(frame[28:], a[:])
	copy(frame[38:], z[:])
	return b
}

func TestARequestIsAnsweredAndItsSenderRemembered(t *testing.T) {
	for name, c := range map[string]struct {
		frame     []byte
		answer    string // whose address is answered for, "" for none
		learned   bool
		impostors int
		malformed int
	}{
		"for the gateway":     {request("10.0.2.15", "10.0.2.2"), "10.0.2.2", true, 0, 0},
		"for the name server": {request("10.0.2.15", "10.0.2.3"), "10.0.2.3", true, 0, 0},
		"for another host":    {request("10.0.2.15", "10.0.2.20"), "", true, 0, 0},
		"of another guest":    {request("10.0.2.16", "10.0.2.2"), "", false, 1, 0},
		"cut":                 {request("10.0.2.15", "10.0.2.2")[:vnet.HeaderLen+20], "", false, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLinked(t, Config{})
			l.OtherGuests = map[ipaddr.Addr]bool{shardtest.Addr("10.0.2.16"): true}
			l.HandleARP(l.Turn, l.Chain(c.frame))
			frames := l.Frames()
			require.EqualValues(t, c.impostors, l.Counters.Impostors)
			require.EqualValues(t, c.malformed, l.Counters.Malformed)
			mine := shardtest.Addr("10.0.2.15")
			require.Equal(t, c.learned, l.Hosts.User(&mine) != hosts.Any)
			if c.answer == "" {
				require.Empty(t, frames)
				return
			}
			require.Len(t, frames, 1)
			require.Equal(t, netip.MustParseAddr(c.answer).AsSlice(), frames[0][28:32])
			require.Equal(t, l.Cfg.GatewayMAC[:], frames[0][22:28])
		})
	}
}

func TestAnAliasIsAnsweredForInThePlaceOfTheOneBefore(t *testing.T) {
	l := newLinked(t, Config{})
	answered := func(to string) bool {
		l.HandleARP(l.Turn, l.Chain(request("10.0.2.15", to)))
		return len(l.Frames()) == 1
	}
	require.False(t, answered("10.0.2.100"))
	l.AnswerFor([]netip.Addr{netip.MustParseAddr("10.0.2.100")})
	require.True(t, answered("10.0.2.100"))
	l.AnswerFor([]netip.Addr{netip.MustParseAddr("10.0.2.101")})
	require.False(t, answered("10.0.2.100"))
	require.True(t, answered("10.0.2.101"))
}

// The router is advertised from the guest's first packet of IPv6 on.
func TestTheRouterIsAdvertisedFromTimeToTime(t *testing.T) {
	const interval = ndp.Interval * int64(time.Second)
	l := newLinked(t, Config{})
	advertised := func() bool {
		l.AdvertiseRouter(l.Turn)
		frames := l.Frames()
		return len(frames) == 1 && binary.BigEndian.Uint16(frames[0][12:]) == netpkt.EtherIPv6 && frames[0][54] == 134
	}
	require.False(t, advertised())
	require.Zero(t, l.AdvertiseAt())
	l.AdvertiseSoon(l.Now)
	require.Zero(t, l.AdvertiseAt(), "it was not begun")
	l.OnIPv6(l.Turn)
	require.Equal(t, l.Now, l.AdvertiseAt())
	require.True(t, advertised())
	require.Equal(t, 1+interval, l.AdvertiseAt())
	l.OnIPv6(l.Turn)
	l.At(interval)
	require.False(t, advertised())
	l.At(interval + 1)
	require.True(t, advertised())
	l.AdvertiseSoon(l.Now)
	require.True(t, advertised(), "what was told has lapsed")

	l.Listening = false
	require.Zero(t, l.AdvertiseAt(), "another pair leads")
	l.Listening = true
	l.MTU = netpkt.MinMTU6 - 1
	l.AdvertiseSoon(l.Now)
	require.False(t, advertised(), "the link does not carry IPv6")
	require.NotZero(t, l.AdvertiseAt())
	l.AdvertiseNever()
	require.Zero(t, l.AdvertiseAt())
}

func TestTheRouterIsNotAdvertisedIfNobodyWantsThat(t *testing.T) {
	l := newLinked(t, Config{NoRouter: true})
	l.OnIPv6(l.Turn)
	require.Zero(t, l.AdvertiseAt())
}

func TestNothingOfNeighbourDiscoveryIsAnsweredIfNobodyWantsThat(t *testing.T) {
	l := newLinked(t, Config{NoNDP: true})
	l.HandleNDP(l.Turn, l.Packet("fe80::9", "fd00:10:0:2::2", netpkt.ICMPv6, make([]byte, 24)))
	require.EqualValues(t, 1, l.Counters.Unsupported)
	require.Empty(t, l.Frames())
}

func TestAnAddressIsAskedForOnceInAWhile(t *testing.T) {
	l := newLinked(t, Config{})
	for address, at := range map[string]struct {
		kind   uint16
		offset int // of the address that is asked for
	}{"10.0.2.15": {netpkt.EtherARP, 38}, "fd00:10:0:2::15": {netpkt.EtherIPv6, 62}} {
		l.AskOnce(l.Turn, shardtest.Addr(address))
		l.AskOnce(l.Turn, shardtest.Addr(address))
		frames := l.Frames()
		require.Len(t, frames, 1, address)
		want := netip.MustParseAddr(address).AsSlice()
		require.Equal(t, at.kind, binary.BigEndian.Uint16(frames[0][12:]))
		require.Equal(t, want, frames[0][at.offset:at.offset+len(want)])
	}
	l.At(l.Now + int64(10*time.Second))
	l.AskOnce(l.Turn, shardtest.Addr("10.0.2.15"))
	require.Len(t, l.Frames(), 1)
}
