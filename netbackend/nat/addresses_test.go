package nat_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// newShared is a bench whose guest has an address of a network that the host is in, and a router beyond it.
func newShared(t *testing.T, more func(*nat.Config)) *bench {
	t.Helper()
	address := netip.MustParsePrefix("192.0.2.2/25")
	router := netip.MustParseAddr("198.51.100.1")
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.Shared = true
		c.SetAddresses(nat.Addresses{Prefix: address, Router: router, Guest: address.Addr()})
		c.NameServers = []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}
		if more != nil {
			more(c)
		}
	}})
	b.IP, b.Gateway = address.Addr(), router
	b.Hosts = map[netip.Addr][6]byte{}
	return b
}

func TestAGuestOfASharedNetworkIsToldTheHostsAddresses(t *testing.T) {
	offer := newShared(t, nil).offer()
	require.Equal(t, "192.0.2.2", offer.YourIPAddr.String())
	require.Equal(t, "255.255.255.128", netip.AddrFrom4([4]byte(offer.SubnetMask())).String())
	require.Equal(t, "198.51.100.1", offer.Router()[0].String())
	require.Equal(t, "192.0.2.53", offer.DNS()[0].String())
	require.Len(t, offer.DNS(), 1, "name servers of the other version are for DHCPv6")
}

func TestAGuestIsToldOfTheNameServersThatItIsToAsk(t *testing.T) {
	for want, change := range map[string]func(*nat.Config){
		"[10.0.2.3]": func(*nat.Config) {}, "[10.0.2.2]": func(c *nat.Config) { c.DNS = c.Gateway }, "[]": func(c *nat.Config) { c.NoNameServers = true },
		"[192.0.2.53]": func(c *nat.Config) { c.NameServers = []netip.Addr{netip.MustParseAddr("192.0.2.53")} },
	} {
		b := newBench(t, setup{config: change})
		b.Hosts = map[netip.Addr][6]byte{}
		require.Equal(t, want, fmt.Sprint(b.offer().DNS()))
	}
}

// offer is what DHCP offers to the guest.
func (b *bench) offer() *dhcpv4.DHCPv4 {
	b.t.Helper()
	t := b.t
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(b.MAC[:]), dhcpv4.WithBroadcast(true), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	require.NoError(t, err)
	b.Hosts[netip.IPv4Unspecified()] = b.MAC
	b.SendDatagram(porttest.Datagram{
		Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: m.ToBytes(),
	})
	var got []*porttest.Datagram
	b.Until("an offer", func() bool { got = append(got, b.Datagrams()...); return len(got) > 0 })
	offer, err := dhcpv4.FromBytes(got[0].Payload)
	require.NoError(t, err)
	return offer
}

func TestNeighboursInASharedNetworkAreJudgedAsTheRestOfTheWorld(t *testing.T) {
	b := newShared(t, func(c *nat.Config) {
		rule, err := spec.ParseRule("192.0.2.77", false)
		require.NoError(t, err)
		c.Rules = []spec.Rule{rule}
	})
	c, conn := b.connect()
	_, err := conn.Write([]byte("by the router"))
	require.NoError(t, err)
	c.WaitFor(len("by the router"))

	require.Equal(t, "--deny 192.0.2.77/32", b.explain("tcp:192.0.2.77:80").By)
	neighbour := b.explain("tcp:192.0.2.78:80")
	require.True(t, neighbour.Allowed)
	require.Equal(t, "192.0.2.78:80", neighbour.Host.String())
	require.Equal(t, "198.51.100.1:80", b.explain("tcp:198.51.100.1:80").Host.String(), "what is not opened of the host at the router's address is the router's")
	require.Contains(t, b.explain("tcp:192.0.2.2:80").Why, "nobody has that address", "it is the guest's")

	refused := b.Dial(netip.MustParseAddrPort("192.0.2.77:80"))
	b.Until("refused", func() bool { return refused.State == porttest.Refused })
}

// The addresses of a shared network are other hosts', so there is no pool.
func TestOnlyTheGuestsAddressOfASharedNetworkIsGiven(t *testing.T) {
	b := newShared(t, nil)
	require.Equal(t, b.IP, b.dhcp(b.MAC))
	require.Len(t, b.port.Leases(b.Now()), 1)
}

func TestAGuestDoesWithoutAProtocol(t *testing.T) {
	discover, err := dhcpv4.New(dhcpv4.WithHwAddr([]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}), dhcpv4.WithBroadcast(true), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	require.NoError(t, err)
	query := porttest.Datagram{Src: netip.MustParseAddrPort("10.0.2.15:1024"), Dst: netip.MustParseAddrPort("10.0.2.2:7"), Payload: []byte("x")}
	dhcp := porttest.Datagram{Src: netip.MustParseAddrPort("10.0.2.15:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: discover.ToBytes()}
	send := map[nat.Protocol]func(b *bench){
		nat.TCP:  func(b *bench) { b.Dial(netip.MustParseAddrPort("10.0.2.2:22")) },
		nat.UDP:  func(b *bench) { b.SendDatagram(query) },
		nat.ICMP: func(b *bench) { b.SendICMP(b.Gateway, porttest.ICMP{Type: 8, Rest: 1}) },
		nat.DHCP: func(b *bench) { b.SendDatagram(dhcp) },
		nat.NDP:  func(b *bench) { b.SendICMP(netip.MustParseAddr("ff02::2"), porttest.ICMP{Type: 133}) },
		nat.RouterAdvertisements: func(b *bench) {
			b.SendICMP(netip.MustParseAddr("ff02::2"), porttest.ICMP{Type: 133})
		},
	}
	// heard is how many frames a protocol makes the engine send.
	heard := func(b *bench, p nat.Protocol) int {
		b.Resolve()
		b.Frames()
		b.Datagrams()
		send[p](b)
		b.Run(2 * time.Second)
		return len(b.Frames()) + len(b.Datagrams())
	}
	for p := range send {
		t.Run(p.String(), func(t *testing.T) {
			all := newBench(t, setup{})
			require.NotZero(t, heard(all, p), "it is answered as a rule")
			without := newBench(t, setup{config: func(c *nat.Config) { c.Without = []nat.Protocol{p} }})
			require.Zero(t, heard(without, p))
		})
	}
	t.Run("udp leaves DHCP", func(t *testing.T) {
		b := newBench(t, setup{config: func(c *nat.Config) { c.Without = []nat.Protocol{nat.UDP} }})
		require.NotZero(t, heard(b, nat.DHCP))
	})
}

func TestNamesAreAnsweredForWhereTheConfigurationSays(t *testing.T) {
	query := func(b *bench, to netip.Addr) uint64 {
		b.Resolve()
		b.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("10.0.2.15:1024"), Dst: netip.AddrPortFrom(to, 53), Payload: dnsQuery()})
		b.Settle()
		return b.port.Counters().Queries
	}
	router, usual := netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("10.0.2.3")
	resolver := porttest.FreePort(t)
	with := func(relay netip.Addr) *bench {
		return newBench(t, setup{config: func(c *nat.Config) { c.DNS, c.Resolvers = relay, dns.Plain(resolver) }})
	}
	require.EqualValues(t, 1, query(with(usual), usual))
	require.EqualValues(t, 1, query(with(router), router), "the router may be the name server")
	require.Zero(t, query(with(router), usual))
	require.Zero(t, query(with(netip.Addr{}), usual))
	require.Zero(t, query(with(netip.Addr{}), router))
}

// dnsQuery asks for the address of example.org.
func dnsQuery() []byte {
	return append([]byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x07example\x03org\x00\x00\x01\x00\x01"...)
}

func TestAddressesThatNobodyCanHaveAreRefused(t *testing.T) {
	usual := nat.Addresses{
		Prefix: netip.MustParsePrefix("10.0.2.0/24"), Router: netip.MustParseAddr("10.0.2.2"), DNS: netip.MustParseAddr("10.0.2.3"),
		Guest: netip.MustParseAddr("10.0.2.15"),
	}
	for fault, change := range map[string]func(a *nat.Addresses){
		"":                                    func(*nat.Addresses) {},
		"--router 0.0.0.0: want the address":  func(a *nat.Addresses) { a.Router = netip.IPv4Unspecified() },
		"--router fd00::1: want the address":  func(a *nat.Addresses) { a.Router = netip.MustParseAddr("fd00::1") },
		"--router 224.0.0.1: want":            func(a *nat.Addresses) { a.Router = netip.MustParseAddr("224.0.0.1") },
		"--guest-address 127.0.0.1: want":     func(a *nat.Addresses) { a.Guest = netip.MustParseAddr("127.0.0.1") },
		"10.0.3.15 is not in the network":     func(a *nat.Addresses) { a.Guest = netip.MustParseAddr("10.0.3.15") },
		"an address of its own":               func(a *nat.Addresses) { a.Router = a.Guest },
		"other than 10.0.2.15":                func(a *nat.Addresses) { a.DNS = a.Guest },
		"has no room for --router":            func(a *nat.Addresses) { a.Router = netip.Addr{} },
		"--dns-relay 255.255.255.255: want t": func(a *nat.Addresses) { a.DNS = netip.MustParseAddr("255.255.255.255") },
	} {
		c, a := nat.DefaultConfig(), usual
		change(&a)
		c.SetAddresses(a)
		if err := c.Check(); fault == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, fault)
		}
	}
	c := nat.DefaultConfig()
	c.NameServers = []netip.Addr{netip.IPv4Unspecified()}
	require.ErrorContains(t, c.Check(), "--name-server 0.0.0.0")
}
