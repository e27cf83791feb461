package daemon

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
)

// addrs reads addresses.
func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// engineWith is the engine's configuration for the usual network with a change.
func engineWith(change func(n *NAT)) (nat.Config, error) {
	n := DefaultNAT()
	change(&n)
	return n.engine(nat.NewShares(1, 0))
}

func TestAddressesThatAreNotGivenFollowFromTheNetwork(t *testing.T) {
	for name, c := range map[string]struct {
		change                   func(n *NAT)
		prefix                   string
		router, dns, guest, mac4 string
	}{
		"none":    {func(*NAT) {}, "10.0.2.0/24", "10.0.2.2", "10.0.2.3", "10.0.2.15", "52:55:0a:00:02:02"},
		"guest":   {func(n *NAT) { n.GuestAddresses = addrs("10.0.2.100") }, "10.0.2.0/24", "10.0.2.2", "10.0.2.3", "10.0.2.100", "52:55:0a:00:02:02"},
		"router":  {func(n *NAT) { n.Routers = addrs("10.0.2.1") }, "10.0.2.0/24", "10.0.2.1", "10.0.2.3", "10.0.2.15", "52:55:0a:00:02:01"},
		"relay":   {func(n *NAT) { n.Relays = addrs("10.0.2.2") }, "10.0.2.0/24", "10.0.2.2", "10.0.2.2", "10.0.2.15", "52:55:0a:00:02:02"},
		"nowhere": {func(n *NAT) { n.NoRelay = true }, "10.0.2.0/24", "10.0.2.2", "invalid IP", "10.0.2.15", "52:55:0a:00:02:02"},
		"hardware": {func(n *NAT) { n.RouterMAC = net.HardwareAddr{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd} },
			"10.0.2.0/24", "10.0.2.2", "10.0.2.3", "10.0.2.15", "5a:94:ef:e4:0c:dd"},
		"a small network": {func(n *NAT) {
			n.Network, n.GuestAddresses, n.Routers = netip.MustParsePrefix("169.254.2.0/30"), addrs("169.254.2.1"), addrs("169.254.2.2")
		}, "169.254.2.0/30", "169.254.2.2", "invalid IP", "169.254.2.1", "52:55:a9:fe:02:02"},
		"a shared one": {func(n *NAT) { n.Shared, n.Relays = true, addrs("fd00:10:0:2::2") }, "10.0.2.0/24", "10.0.2.2", "invalid IP", "10.0.2.15", "52:55:0a:00:02:02"},
		"a host alone": {func(n *NAT) {
			n.Network, n.GuestAddresses, n.Routers = netip.MustParsePrefix("192.0.2.9/32"), addrs("192.0.2.9"), addrs("198.51.100.1")
		}, "192.0.2.9/32", "198.51.100.1", "invalid IP", "192.0.2.9", "52:55:c6:33:64:01"},
	} {
		got, err := engineWith(c.change)
		require.NoError(t, err, name)
		require.Equal(t, c.prefix, got.Prefix.String(), name)
		require.Equal(t, []string{c.router, c.dns, c.guest}, []string{got.Gateway.String(), got.DNS.String(), got.Guest.String()}, name)
		require.Equal(t, c.mac4, net.HardwareAddr(got.GatewayMAC[:]).String(), name)
	}
}

func TestAddressesOfIPv6AreSetApart(t *testing.T) {
	got, err := engineWith(func(n *NAT) {
		n.Network6, n.GuestAddresses, n.Routers, n.NoRelay = netip.MustParsePrefix("2001:db8::/64"), addrs("2001:db8::7"), addrs("fe80::1"), true
	})
	require.NoError(t, err)
	require.Equal(t, addrs("2001:db8::7", "fe80::1", "fe80::1"), []netip.Addr{got.Guest6, got.Gateway6, got.LinkLocal6})
	require.False(t, got.DNS6.IsValid())
	require.Equal(t, addrs("10.0.2.2", "10.0.2.15"), []netip.Addr{got.Gateway, got.Guest}, "IPv4 is as it was")
}

func TestAddressesThatContradictEachOtherAreRefused(t *testing.T) {
	for fault, change := range map[string]func(n *NAT){
		"router 10.0.2.5: want one address of IPv4, and one of IPv6": func(n *NAT) { n.Routers = addrs("10.0.2.1", "10.0.2.5") },
		"dns-relay off and dns-relay 10.0.2.4 exclude each other":    func(n *NAT) { n.Relays, n.NoRelay = addrs("10.0.2.4"), true },
		"name-server none and name-server 192.0.2.53 exclude":        func(n *NAT) { n.NameServers, n.NoNameServers = addrs("192.0.2.53"), true },
		"router-mac 01:00:00:00:00:00: want the address of one":      func(n *NAT) { n.RouterMAC = net.HardwareAddr{1, 0, 0, 0, 0, 0} },
		"has no room for --guest-address":                            func(n *NAT) { n.Network, n.Routers = netip.MustParsePrefix("192.0.2.8/30"), addrs("192.0.2.9") },
		"bits are set behind the first 24; write 10.0.2.0/24":        func(n *NAT) { n.Network, n.NoRelay = netip.MustParsePrefix("10.0.2.15/24"), true },
	} {
		_, err := engineWith(change)
		require.ErrorContains(t, err, fault)
	}
}
