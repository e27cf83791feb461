package uplink_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/uplink"
)

const (
	tcp, udp, icmpv6 = 6, 17, 58
	etherIPv4        = 0x0800
	etherIPv6        = 0x86dd
	etherARP         = 0x0806
)

var (
	routerMAC  = [6]byte{0x52, 0x55, 10, 0, 2, 2}
	broadcast  = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	router     = netip.MustParseAddr("10.0.2.2")
	router6    = netip.MustParseAddr("fd00:10:0:2::2")
	nameserver = netip.MustParseAddr("10.0.2.3")
)

// lan is a switch with guests that have an engine each, all on the test's thread.
type lan struct {
	t      *testing.T
	guests []*porttest.Guest
	ports  []*uplink.Port
	server *net.TCPListener // of the host, which guests reach
}

// newLAN connects so many guests, named a, b and so on.
func newLAN(t *testing.T, n int, change func(i int, c *nat.Config)) *lan {
	l := &lan{t: t}
	var err error
	l.server, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.server.Close() })
	sw, err := l2switch.New(l2switch.Default())
	require.NoError(t, err)
	cfg := nat.DefaultConfig()
	cfg.ResolvConf = ""
	cfg.AllowHost = []spec.HostService{{Proto: tcp, Port: uint16(l.server.Addr().(*net.TCPAddr).Port)}}
	configs, err := cfg.ForGuests(n)
	require.NoError(t, err)
	shared := new(nat.LAN)
	for i := range n {
		c := configs[i]
		c.Neighbour = nat.Neighbour{LAN: shared, Name: string(rune('a' + i))}
		if change != nil {
			change(i, &c)
		}
		engine, err := nat.New(c)
		require.NoError(t, err)
		place, err := sw.NewPort(l2switch.PortConfig{})
		require.NoError(t, err)
		p, err := uplink.New(place, engine)
		require.NoError(t, err)
		g := porttest.New(t, p, porttest.Options{GatewayMAC: routerMAC})
		g.IP, g.IP6, g.MAC, g.MayBreakRules = c.Guest, c.Guest6, macOf(i), true
		l.guests, l.ports = append(l.guests, g), append(l.ports, p)
	}
	return l
}

func macOf(i int) [6]byte { return [6]byte{0x52, 0x54, 0, 0, 0, byte(i + 1)} }

// work lets all guests work until nothing happens any more but by time.
func (l *lan) work() {
	for range 6 {
		for _, g := range l.guests {
			g.Work()
		}
	}
}

// got returns the frames that a guest has received since the last call.
func (l *lan) got(i int) (all [][]byte) {
	for _, f := range l.guests[i].Frames() {
		all = append(all, f.Bytes)
	}
	return all
}

// send lets a guest send a frame.
func (l *lan) send(i int, frame []byte) {
	l.guests[i].SendFrame(frame)
	l.work()
}

// forget drops what all guests have received so far.
func (l *lan) forget() {
	for i := range l.guests {
		l.got(i)
	}
}

// sent returns what the switch has taken of a guest, and dropped since only its router sends it.
func (l *lan) sent(i int) (taken, guarded uint64) {
	c := l.ports[i].Counters().Switch
	return c.Sent, c.Guarded
}

func ethernet(to, from [6]byte, kind uint16, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16(append(append([]byte{}, to[:]...), from[:]...), kind), payload...)
}

func arp(op uint16, mac [6]byte, ip netip.Addr, target netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, byte(op)}
	b = append(append(b, mac[:]...), ip.AsSlice()...)
	return append(append(b, make([]byte, 6)...), target.AsSlice()...)
}

func ipv4(proto byte, from, to netip.Addr, payload []byte) []byte {
	b := []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0, 0, 64, proto, 0, 0}
	return append(append(append(b, from.AsSlice()...), to.AsSlice()...), payload...)
}

func ipv6(next byte, from, to netip.Addr, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, byte(len(payload)), next, 255}
	return append(append(append(b, from.AsSlice()...), to.AsSlice()...), payload...)
}

func datagram(from, to uint16, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	return append(binary.BigEndian.AppendUint16(b, uint16(8+len(payload))), append([]byte{0, 0}, payload...)...)
}

func TestGuestsReachEachOtherOverTheSwitchAndTheOutsideByTheirEngines(t *testing.T) {
	l := newLAN(t, 3, nil)
	for i := range l.guests {
		l.send(i, ethernet(broadcast, macOf(i), etherARP, arp(1, macOf(i), l.guests[i].IP, l.guests[(i+1)%3].IP)))
	}
	l.forget()
	frame := ethernet(macOf(1), macOf(0), etherIPv4, ipv4(udp, l.guests[0].IP, l.guests[1].IP, datagram(1, 2, make([]byte, 30)...)))
	l.send(0, frame)
	require.Equal(t, [][]byte{frame}, l.got(1))
	require.Empty(t, l.got(2), "only who it is for")

	before, _ := l.sent(0)
	c := l.guests[0].Dial(netip.AddrPortFrom(router, uint16(l.server.Addr().(*net.TCPAddr).Port)))
	l.guests[0].Until("it is connected", func() bool { return c.State == porttest.Open })
	after, _ := l.sent(0)
	require.Equal(t, before, after, "nothing of it goes over the switch")
	require.EqualValues(t, 1, l.ports[0].Counters().NAT.TCPFlows)
}

// What is for the router never leaves the guest, be it sent to all.
func TestWhatTheRouterAnswersIsNotFlooded(t *testing.T) {
	l := newLAN(t, 2, nil)
	discover, err := dhcpv4.NewDiscovery(net.HardwareAddr(l.guests[0].MAC[:]))
	require.NoError(t, err)
	all := netip.MustParseAddr("255.255.255.255")
	solicited := [6]byte{0x33, 0x33, 0xff, 0, 0, 2}
	own := netip.MustParseAddr("fe80::1")
	for name, frame := range map[string][]byte{
		"ARP for the router":      ethernet(broadcast, macOf(0), etherARP, arp(1, macOf(0), l.guests[0].IP, router)),
		"ARP for the name server": ethernet(broadcast, macOf(0), etherARP, arp(1, macOf(0), l.guests[0].IP, nameserver)),
		"DHCP": ethernet(broadcast, macOf(0), etherIPv4, func() []byte {
			b := ipv4(udp, netip.IPv4Unspecified(), all, datagram(68, 67, discover.ToBytes()...))
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
			return b
		}()),
		"router solicitation": ethernet([6]byte{0x33, 0x33, 0, 0, 0, 2}, macOf(0), etherIPv6,
			ipv6(icmpv6, own, netip.MustParseAddr("ff02::2"), append([]byte{133, 0, 0, 0}, make([]byte, 4)...))),
		"neighbour solicitation": ethernet(solicited, macOf(0), etherIPv6,
			ipv6(icmpv6, own, netip.MustParseAddr("ff02::1:ff00:2"), append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, router6.AsSlice()...))),
	} {
		t.Run(name, func(t *testing.T) {
			l.forget()
			before, _ := l.sent(0)
			l.send(0, frame)
			after, _ := l.sent(0)
			require.Equal(t, before, after)
			require.Empty(t, l.got(1))
			answers := l.got(0)
			require.NotEmpty(t, answers)
			for _, answer := range answers {
				require.Equal(t, routerMAC[:], answer[6:12])
			}
		})
	}
}

// A guest is known by its name to those that it reaches, forward and reverse, by IPv4 and IPv6. What a host calls itself takes no other's name.
func TestGuestsAreKnownByTheirNames(t *testing.T) {
	l := newLAN(t, 4, func(i int, c *nat.Config) {
		if i == 3 {
			c.Neighbour.VLAN = 7
		}
	})
	asks := func(i int, kind uint16, name string) (rcode int, answers []string) {
		query := new(dns.Msg).SetQuestion(name, kind)
		packed, err := query.Pack()
		require.NoError(t, err)
		g := l.guests[i]
		g.Datagrams()
		g.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(g.IP, 4000), Dst: netip.AddrPortFrom(nameserver, 53), Payload: packed})
		var got []*porttest.Datagram
		g.Until("it is answered", func() bool { got = append(got, g.Datagrams()...); return len(got) > 0 })
		answer := new(dns.Msg)
		require.NoError(t, answer.Unpack(got[0].Payload))
		for _, r := range answer.Answer {
			answers = append(answers, dns.Field(r, 1))
		}
		return answer.Rcode, answers
	}
	l.calls(1, "b-host")
	l.calls(2, "a") // which is another's name
	l.work()
	for _, c := range []struct {
		from int
		kind uint16
		name string
		want []string // nil if there is no such name
	}{
		{0, dns.TypeA, "b.vring.internal.", []string{"10.0.2.16"}},
		{0, dns.TypeA, "B.", []string{"10.0.2.16"}},
		{0, dns.TypeA, "b-host.", []string{"10.0.2.16"}},
		{0, dns.TypeA, "a.", []string{"10.0.2.15"}},
		{1, dns.TypeA, "a.vring.internal.", []string{"10.0.2.15"}},
		{0, dns.TypePTR, "17.2.0.10.in-addr.arpa.", []string{"c.vring.internal."}},
		{0, dns.TypeA, "d.vring.internal.", nil},
		{3, dns.TypeA, "a.vring.internal.", nil},
		{3, dns.TypeA, "d.vring.internal.", []string{"10.0.2.18"}},
	} {
		rcode, answers := asks(c.from, c.kind, c.name)
		require.Equal(t, c.want, answers, c.name)
		require.Equal(t, c.want == nil, rcode == dns.RcodeNameError, c.name)
	}
	_, none := asks(0, dns.TypeAAAA, "b.")
	require.Empty(t, none, "it has used no address of IPv6 yet")
	asked := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, router6.AsSlice()...)
	l.send(1, ethernet(routerMAC, macOf(1), etherIPv6, ipv6(icmpv6, netip.MustParseAddr("fd00:10:0:2::1234"), router6, asked)))
	_, chosen := asks(0, dns.TypeAAAA, "b.")
	require.Equal(t, []string{"fd00:10:0:2::1234"}, chosen)
	_, back := asks(0, dns.TypePTR, "4.3.2.1.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.0.0.0.1.0.0.0.0.d.f.ip6.arpa.")
	require.Equal(t, []string{"b.vring.internal."}, back)

	l.guests[2].Stop()
	rcode, _ := asks(0, dns.TypeA, "c.vring.internal.")
	require.Equal(t, dns.RcodeNameError, rcode, "it is gone")
}

// calls lets a guest take its address by DHCP, and call itself by a name.
func (l *lan) calls(i int, name string) {
	m, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(l.guests[i].MAC[:]),
		dhcpv4.WithOption(dhcpv4.OptHostName(name)), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(l.guests[i].IP.AsSlice())))
	require.NoError(l.t, err)
	l.guests[i].SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(netip.IPv4Unspecified(), 68), Dst: netip.AddrPortFrom(router, 67), Payload: m.ToBytes()})
}

func TestWhatGuestsAskEachOtherIsFlooded(t *testing.T) {
	l := newLAN(t, 2, nil)
	own := netip.MustParseAddr("fe80::1")
	for name, frame := range map[string][]byte{
		"ARP": ethernet(broadcast, macOf(0), etherARP, arp(1, macOf(0), l.guests[0].IP, l.guests[1].IP)),
		"neighbour solicitation": ethernet([6]byte{0x33, 0x33, 0xff, 0, 0, 0x16}, macOf(0), etherIPv6,
			ipv6(icmpv6, own, netip.MustParseAddr("ff02::1:ff00:16"), append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, l.guests[1].IP6.AsSlice()...))),
		"mDNS": ethernet([6]byte{1, 0, 0x5e, 0, 0, 0xfb}, macOf(0), etherIPv4,
			ipv4(udp, l.guests[0].IP, netip.MustParseAddr("224.0.0.251"), datagram(5353, 5353, make([]byte, 30)...))),
	} {
		t.Run(name, func(t *testing.T) {
			l.forget()
			l.send(0, frame)
			require.NotEmpty(t, l.got(1))
		})
	}
}

// A hostile guest claims to be the router, in each way that there is. The others get nothing of it.
func TestNobodyIsTheRouterOfAnother(t *testing.T) {
	l := newLAN(t, 2, nil)
	l.send(0, ethernet(broadcast, macOf(0), etherARP, arp(1, macOf(0), l.guests[0].IP, l.guests[1].IP)))
	victim, linkLocal := macOf(0), netip.MustParseAddr("fe80::5055:aff:fe00:202")
	advertisement := append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, router6.AsSlice()...)
	hidden := append([]byte{icmpv6, 0, 1, 4, 0, 0, 0, 0}, advertisement...)
	for name, frame := range map[string][]byte{
		"an answer of ARP":        ethernet(victim, macOf(1), etherARP, arp(2, macOf(1), router, l.guests[0].IP)),
		"that, cut behind it":     ethernet(victim, macOf(1), etherARP, arp(2, macOf(1), router, l.guests[0].IP)[:20]),
		"ARP, to all":             ethernet(broadcast, macOf(1), etherARP, arp(1, macOf(1), router, router)),
		"ARP, by a priority tag":  ethernet(broadcast, macOf(1), 0x8100, append([]byte{0xe0, 0, 8, 6}, arp(2, macOf(1), router, router)...)),
		"the name server's ARP":   ethernet(victim, macOf(1), etherARP, arp(2, macOf(1), nameserver, l.guests[0].IP)),
		"neighbour advertisement": ethernet(victim, macOf(1), etherIPv6, ipv6(icmpv6, l.guests[1].IP6, l.guests[0].IP6, advertisement)),
		"that behind a header":    ethernet(victim, macOf(1), etherIPv6, ipv6(60, l.guests[1].IP6, l.guests[0].IP6, hidden)),
		"that in a first fragment": ethernet(victim, macOf(1), etherIPv6,
			ipv6(44, l.guests[1].IP6, l.guests[0].IP6, append([]byte{icmpv6, 0, 0, 1, 0, 0, 0, 9}, advertisement...))),
		"headers without an end": ethernet(victim, macOf(1), etherIPv6, ipv6(60, l.guests[1].IP6, l.guests[0].IP6, []byte{60, 200})),
		"router advertisement": ethernet([6]byte{0x33, 0x33, 0, 0, 0, 1}, macOf(1), etherIPv6,
			ipv6(icmpv6, netip.MustParseAddr("fe80::bad"), netip.MustParseAddr("ff02::1"), append([]byte{134}, make([]byte, 15)...))),
		"redirect":                     ethernet(victim, macOf(1), etherIPv6, ipv6(icmpv6, l.guests[1].IP6, l.guests[0].IP6, append([]byte{137}, make([]byte, 39)...))),
		"an answer of the name server": ethernet(victim, macOf(1), etherIPv4, ipv4(udp, nameserver, l.guests[0].IP, datagram(53, 4000, make([]byte, 30)...))),
		"a packet of the router's":     ethernet(victim, macOf(1), etherIPv6, ipv6(udp, linkLocal, l.guests[0].IP6, datagram(1, 4000))),
		"a DHCP server":                ethernet(victim, macOf(1), etherIPv4, ipv4(udp, l.guests[1].IP, l.guests[0].IP, datagram(67, 68, make([]byte, 30)...))),
		"a DHCP server at another port": ethernet(broadcast, macOf(1), etherIPv4,
			ipv4(udp, l.guests[1].IP, netip.MustParseAddr("255.255.255.255"), datagram(6767, 68, make([]byte, 30)...))),
		"a DHCPv6 server": ethernet(victim, macOf(1), etherIPv6, ipv6(udp, l.guests[1].IP6, l.guests[0].IP6, datagram(547, 546, make([]byte, 30)...))),
	} {
		t.Run(name, func(t *testing.T) {
			l.forget()
			_, before := l.sent(1)
			l.send(1, frame)
			_, after := l.sent(1)
			require.Equal(t, before+1, after)
			require.Empty(t, l.got(0))
		})
	}
	l.forget()
	l.send(1, ethernet(victim, routerMAC, etherIPv4, ipv4(udp, l.guests[1].IP, l.guests[0].IP, datagram(1, 2))))
	require.Empty(t, l.got(0))
	require.EqualValues(t, 1, l.ports[1].Counters().Switch.Spoofed, "nor has it the router's MAC address")
	l.send(1, ethernet(victim, macOf(1), etherIPv4, ipv4(udp, l.guests[1].IP, l.guests[0].IP, datagram(1, 2))))
	require.Len(t, l.got(0), 1, "what is the guest's own passes")
}

func TestAGuestWithoutDHCPOfVringMayHaveAnothersServer(t *testing.T) {
	l := newLAN(t, 2, func(_ int, c *nat.Config) {
		c.Without = []nat.Protocol{nat.DHCP, nat.DHCPv6, nat.RouterAdvertisements}
	})
	for name, frame := range map[string][]byte{
		"a request": ethernet(broadcast, macOf(1), etherIPv4, ipv4(udp, netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255"), datagram(68, 67, make([]byte, 30)...))),
		"an answer": ethernet(broadcast, macOf(1), etherIPv4, ipv4(udp, l.guests[1].IP, netip.MustParseAddr("255.255.255.255"), datagram(67, 68, make([]byte, 30)...))),
		"router advertisement": ethernet([6]byte{0x33, 0x33, 0, 0, 0, 1}, macOf(1), etherIPv6,
			ipv6(icmpv6, netip.MustParseAddr("fe80::900d"), netip.MustParseAddr("ff02::1"), append([]byte{134}, make([]byte, 15)...))),
	} {
		t.Run(name, func(t *testing.T) {
			l.forget()
			l.send(1, frame)
			require.Len(t, l.got(0), 1)
		})
	}
}

// An address that a redirect gives the router is the router's from then on.
func TestARedirectsAddressIsTheRouters(t *testing.T) {
	alias := netip.MustParseAddr("10.0.2.100")
	claim := ethernet(broadcast, macOf(1), etherARP, arp(1, macOf(1), alias, alias))
	l := newLAN(t, 2, nil)
	l.send(1, claim)
	require.Len(t, l.got(0), 1)

	l = newLAN(t, 2, func(_ int, c *nat.Config) {
		r, err := spec.ParseRedirect("10.0.2.100=127.0.0.1")
		require.NoError(t, err)
		c.Redirects = []spec.Redirect{r}
	})
	l.send(1, claim)
	require.Empty(t, l.got(0))
	l.send(0, ethernet(broadcast, macOf(0), etherARP, arp(1, macOf(0), l.guests[0].IP, alias)))
	require.Len(t, l.got(0), 1)
	require.Empty(t, l.got(1))
}

// A receiver that takes nothing costs what is for it, and nothing of what its sender sends to the outside.
func TestAReceiverThatIsStuckCostsTheOutsideNothing(t *testing.T) {
	l := newLAN(t, 2, nil)
	l.send(1, ethernet(broadcast, macOf(1), etherARP, arp(1, macOf(1), l.guests[1].IP, l.guests[0].IP)))
	l.guests[1].Withhold = true
	toStuck := ethernet(macOf(1), macOf(0), etherIPv4, ipv4(udp, l.guests[0].IP, l.guests[1].IP, datagram(1, 2, make([]byte, 100)...)))
	for l.ports[0].Counters().Switch.Full == 0 { // its inbox is full, and was waited for
		l.guests[0].SendFrame(toStuck)
		l.guests[0].Run(1e6)
	}
	l.got(0)
	ping := ethernet(routerMAC, macOf(0), etherARP, arp(1, macOf(0), l.guests[0].IP, router))
	const rounds = 50
	turns := l.guests[0].Now()
	answered := 0
	for range rounds {
		for range 4 {
			l.guests[0].SendFrame(toStuck)
		}
		l.guests[0].SendFrame(ping)
		l.guests[0].Work()
		answered += len(l.got(0))
	}
	require.Equal(t, rounds, answered, "each in the turn in which it was sent")
	require.Equal(t, turns, l.guests[0].Now(), "no time has passed")
}
