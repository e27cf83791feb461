package guestnet

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

func addr(text string) *ipaddr.Addr {
	a := ipaddr.From(netip.MustParseAddr(text))
	return &a
}

func usual() Networks {
	return New(
		Network{Prefix: netip.MustParsePrefix("10.0.2.0/24"), Gateway: *addr("10.0.2.2"), DNS: *addr("10.0.2.3")},
		Network{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: *addr("fd00::2"), DNS: *addr("fd00::3")},
		[6]byte{0x52, 0x55, 10, 0, 2, 2},
	)
}

func TestANetworkThatTheGuestHasNotHasNoAddresses(t *testing.T) {
	both := usual()
	require.Equal(t, *addr("127.0.0.1"), both.V4.Loopback)
	require.Equal(t, *addr("::1"), both.V6.Loopback)
	require.Equal(t, *addr("fe80::5055:aff:fe00:202"), both.LinkLocal)
	one := New(both.V4, Network{}, [6]byte{0x52, 0x55, 10, 0, 2, 2})
	require.Equal(t, both.V4, one.V4)
	require.Zero(t, one.V6)
	require.Zero(t, one.LinkLocal)
}

func TestTheEngineAnswersForItsOwnAddressesOnly(t *testing.T) {
	type roles struct{ gateway, dns bool }
	n := usual()
	for text, want := range map[string]roles{
		"10.0.2.2": {gateway: true}, "fd00::2": {gateway: true}, "fe80::5055:aff:fe00:202": {gateway: true},
		"10.0.2.3": {dns: true}, "fd00::3": {dns: true},
		"10.0.2.15": {}, "fd00::15": {}, "fe80::1": {}, "192.0.2.1": {},
	} {
		require.Equal(t, want, roles{n.IsGateway(addr(text)), n.IsDNS(addr(text))}, text)
		require.Equal(t, want != roles{}, n.IsOurs(addr(text)), text)
	}
}

func TestTheGuestsNetworkContainsItsPrefixesAndItsLink(t *testing.T) {
	n := usual()
	for text, want := range map[string]bool{
		"10.0.2.0": true, "10.0.2.255": true, "10.0.3.0": false, "10.0.1.255": false,
		"fd00::": true, "fd00::ffff:ffff:ffff:ffff": true, "fd00:0:0:1::": false, "2001:db8::1": false,
		"fe80::1": true, "febf::1": true, "fec0::1": false,
	} {
		require.Equal(t, want, n.Contains(addr(text)), text)
	}
}

func TestABroadcastAddressHasAllBitsOfItsHost(t *testing.T) {
	n, wide := usual(), New(Network{Prefix: netip.MustParsePrefix("10.0.0.0/20")}, Network{}, [6]byte{})
	for text, want := range map[string]struct{ usual, wide bool }{
		"10.0.2.255": {usual: true}, "10.0.15.255": {wide: true}, "10.0.2.254": {}, "10.0.3.255": {}, "10.0.31.255": {}, "fd00::ffff": {},
	} {
		require.Equal(t, want.usual, n.IsBroadcast(addr(text)), text)
		require.Equal(t, want.wide, wide.IsBroadcast(addr(text)), text)
	}
}

func TestAPeerThatNoAnswerFindsIsSeenAtTheGateway(t *testing.T) {
	n := usual()
	for _, c := range []struct{ peer, guest, want string }{
		{"192.0.2.1", "10.0.2.15", "192.0.2.1"}, // it finds the way back
		{"127.0.0.1", "10.0.2.15", "10.0.2.2"},
		{"10.0.2.77", "10.0.2.15", "10.0.2.2"}, // of another network with the same addresses
		{"2001:db8::1", "10.0.2.15", "10.0.2.2"},
		{"0.0.0.1", "10.0.2.15", "10.0.2.2"}, // nobody has such an address
		{"224.0.0.1", "10.0.2.15", "10.0.2.2"},
		{"fe80::1", "fd00::15", "fd00::2"},
		{"::1", "fd00::15", "fd00::2"},
		{"ff0e::1", "fd00::15", "fd00::2"},
		{"192.0.2.1", "fd00::15", "fd00::2"},
		{"2001:db8::1", "fd00::15", "2001:db8::1"},
	} {
		require.Equal(t, *addr(c.want), n.AsSeen(addr(c.peer), addr(c.guest)), c)
	}
}

func TestAServiceOfTheHostIsNamedByTheAddressesThatLeadToIt(t *testing.T) {
	n := usual()
	for name, c := range map[string]struct {
		service netip.Addr
		want    []string
	}{
		"no address":       {netip.Addr{}, []string{"10.0.2.2", "fd00::2", "fe80::5055:aff:fe00:202"}},
		"loopback of IPv4": {netip.MustParseAddr("127.0.0.1"), []string{"10.0.2.2"}},
		"loopback of IPv6": {netip.MustParseAddr("::1"), []string{"fd00::2", "fe80::5055:aff:fe00:202"}},
		"another loopback": {netip.MustParseAddr("127.0.0.2"), []string{"127.0.0.2"}},
		"another address":  {netip.MustParseAddr("192.0.2.1"), []string{"192.0.2.1"}},
		"one of IPv6":      {netip.MustParseAddr("2001:db8::1"), []string{"2001:db8::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []ipaddr.Addr
			for _, text := range c.want {
				want = append(want, *addr(text))
			}
			require.Equal(t, want, n.Named(c.service))
		})
	}
}

func TestOfASharedNetworkOnlyTheGuestsAddressesAreItsOwn(t *testing.T) {
	n := usual()
	n.Shared, n.V4.Guest, n.V6.Guest = true, *addr("10.0.2.15"), *addr("fd00::15")
	for text, own := range map[string]bool{
		"10.0.2.15": true, "10.0.2.3": true, "fd00::15": true, "fe80::1": true,
		"10.0.2.2": false, "fd00::2": false, "10.0.2.16": false, "10.0.2.255": false, "fd00::16": false, "192.0.2.1": false,
	} {
		require.Equal(t, own, n.Contains(addr(text)), text)
	}
	require.Equal(t, *addr("10.0.2.77"), n.AsSeen(addr("10.0.2.77"), addr("10.0.2.15")), "a neighbour is seen as itself")
	require.Equal(t, *addr("10.0.2.2"), n.AsSeen(addr("10.0.2.15"), addr("10.0.2.15")), "the host may have the guest's address")
	require.True(t, n.IsBroadcast(addr("10.0.2.255")))
}

func TestANetworkOfTwoHostsHasNoBroadcastAddress(t *testing.T) {
	for bits, last := range map[int]bool{30: true, 31: false, 32: false} {
		n := New(Network{Prefix: netip.PrefixFrom(netip.MustParseAddr("10.0.2.3"), bits)}, Network{}, [6]byte{})
		require.Equal(t, last, n.IsBroadcast(addr("10.0.2.3")), bits)
	}
}
