package nat_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

var (
	secondMAC, thirdMAC = [6]byte{2, 0, 0, 0, 0, 2}, [6]byte{2, 0, 0, 0, 0, 3}
	secondIP, secondIP6 = netip.MustParseAddr("10.0.2.101"), netip.MustParseAddr("fd00:10:0:2::101")
)

// withHosts puts a second host behind the guest's card. porttest checks from now on that each packet goes to the host that has
// its address.
func (b *bench) withHosts() {
	b.Resolve()
	b.Hosts = map[netip.Addr][6]byte{secondIP: secondMAC, secondIP6: secondMAC}
}

// asHost lets fn do what the second host does.
func (b *bench) asHost(a4, a6 netip.Addr, fn func()) {
	ip, ip6 := b.IP, b.IP6
	b.IP, b.IP6 = a4, a6
	fn()
	b.IP, b.IP6 = ip, ip6
}

// pingRouter lets a host be heard.
func (b *bench) pingRouter(from netip.Addr) {
	b.asHost(from, b.IP6, func() { b.SendICMP(b.Gateway, porttest.ICMP{Type: 8, Rest: 1}) })
	b.Settle()
}

func TestEachHostBehindACardGetsItsOwnAnswers(t *testing.T) {
	for _, features := range map[string]uint64{"all": 0} {
		b := newBench(t, setup{guest: porttest.Options{Features: features}})
		b.withHosts()
		first, atFirst := b.connect()
		var second *porttest.TCP
		b.asHost(secondIP, secondIP6, func() { second = b.Dial(b.server) })
		b.Until("the second host is connected", func() bool { return second.State == porttest.Open })
		conn, err := b.listen.AcceptTCP()
		require.NoError(t, err)
		defer conn.Close()
		for range 20 {
			b.pingRouter(b.IP) // speaks last, whoever answers
			_, err := conn.Write(make([]byte, 3000))
			require.NoError(t, err)
			b.pingRouter(secondIP)
			_, err = atFirst.Write(make([]byte, 3000))
			require.NoError(t, err)
		}
		first.WaitFor(60000)
		second.WaitFor(60000)
	}
}

func TestDatagramsAndErrorsGoToTheHostThatIsMeant(t *testing.T) {
	b := newUDPBench(t, setup{config: func(c *nat.Config) { c.EndpointIndependent = false }})
	b.withHosts()
	hello := b.datagram(1, 100)
	hello.Src = netip.AddrPortFrom(secondIP, 1024)
	b.SendDatagram(hello)
	b.Settle()
	b.hostGets([][]byte{hello.Payload})
	b.pingRouter(b.IP)
	for _, n := range []int{100, 1400, 4000} { // the last one in fragments
		_, err := b.host.WriteToUDPAddrPort(numbered(2, n), b.from)
		require.NoError(t, err)
		b.pingRouter(b.IP)
		b.guestGets([][]byte{numbered(2, n)})
	}
	closed := hello
	closed.Dst = netip.AddrPortFrom(b.Gateway, 9)
	b.SendDatagram(closed)
	b.pingRouter(b.IP)
	for _, f := range b.Frames() {
		if f.ICMP != nil && f.ICMP.Type == 3 {
			require.Equal(t, secondIP, f.Dst)
			return
		}
	}
	t.Fatal("no error came back")
}

func TestAForwardLeadsToTheHostThatHasTheAddress(t *testing.T) {
	for _, to := range []netip.Addr{secondIP, secondIP6} {
		listen := porttest.FreePort(t)
		b := newBench(t, setup{config: func(c *nat.Config) {
			c.Forwards = []spec.Forward{{Proto: tcp, Host: listen, Guest: netip.AddrPortFrom(to, 80), Count: 1}}
		}})
		b.withHosts()
		l := b.Listen(80)
		client, err := net.DialTimeout("tcp4", listen.String(), time.Minute)
		require.NoError(t, err)
		defer client.Close()
		b.Until("the second host, of which nothing is known, was asked for and found", func() bool { return len(l.Pending()) == 1 })
		server := l.Accept()
		require.Equal(t, to, server.Local.Addr())
		_, err = client.Write([]byte("hello"))
		require.NoError(t, err)
		b.pingRouter(b.IP)
		server.WaitFor(5)
		syns := 0
		for _, f := range b.Frames() {
			if f.TCP != nil && f.TCP.Flags&2 != 0 {
				syns++
			}
		}
		require.Equal(t, 1, syns, "it was not sent to the wrong one first")
	}
}

func TestDatagramsOfAForwardGoToTheHostThatHasTheAddress(t *testing.T) {
	b := newUDPForward(t, secondIP)
	b.withHosts()
	_, err := b.client.Write([]byte("is anybody there"))
	require.NoError(t, err)
	b.MayBreakRules = true // the first datagram goes to the host that was heard last, for none is known to have the address
	b.Until("it came", func() bool { return len(b.Datagrams()) == 1 })
	b.Settle()
	b.MayBreakRules = false
	for range 5 {
		b.pingRouter(b.IP)
		_, err := b.client.Write([]byte("hello"))
		require.NoError(t, err)
		b.Until("it came", func() bool { return len(b.Datagrams()) == 1 })
	}
}

// udpForward is a bench with a UDP forward, and a client of it.
type udpForward struct {
	*bench
	client net.Conn
}

func newUDPForward(t *testing.T, to netip.Addr) udpForward {
	listen := porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.Forwards = []spec.Forward{{Proto: udp, Host: listen, Guest: netip.AddrPortFrom(to, 53), Count: 1}}
	}})
	client, err := net.Dial("udp4", listen.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return udpForward{b, client}
}

// As after the failover of a bond, or when an address is moved to another interface: the new host says so, and the one that
// receives has nothing else to send.
func TestAConnectionFollowsAnAddressThatMoves(t *testing.T) {
	b := newBench(t, setup{})
	b.withHosts()
	var c *porttest.TCP
	b.asHost(secondIP, secondIP6, func() { c = b.Dial(b.server) })
	b.Until("connected", func() bool { return c.State == porttest.Open })
	conn, err := b.listen.AcceptTCP()
	require.NoError(t, err)
	defer conn.Close()
	b.Settle()

	b.Hosts[secondIP] = thirdMAC
	b.announce(secondIP, thirdMAC)
	b.Settle()
	_, err = conn.Write([]byte("to the new one"))
	require.NoError(t, err)
	c.WaitFor(14)

	b.Run(time.Second)
	b.Hosts[secondIP] = secondMAC
	c.Send([]byte("x")) // or just by what it sends
	b.Settle()
	_, err = conn.Write([]byte("back"))
	require.NoError(t, err)
	c.WaitFor(18)
}

// announce sends a gratuitous ARP (RFC 5227 section 3).
func (b *bench) announce(a netip.Addr, mac [6]byte) {
	frame := append([]byte{255, 255, 255, 255, 255, 255}, mac[:]...)
	frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	frame = append(append(frame, mac[:]...), a.AsSlice()...)
	frame = append(append(frame, make([]byte, 6)...), a.AsSlice()...)
	b.SendFrame(frame)
}

// dhcp has a client with a MAC address ask for an address by DHCP, by its whole exchange, until it has one.
func (b *bench) dhcp(mac [6]byte) netip.Addr {
	b.t.Helper()
	ask := func(options ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac[:]), dhcpv4.WithBroadcast(true)}, options...)...)
		require.NoError(b.t, err)
		for range 5 {
			b.Hosts[netip.IPv4Unspecified()] = mac
			b.SendDatagram(porttest.Datagram{
				Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: m.ToBytes(),
			})
			b.Run(2 * time.Second)
			for _, d := range b.Datagrams() {
				a, err := dhcpv4.FromBytes(d.Payload)
				require.NoError(b.t, err)
				return a
			}
		}
		b.t.Fatal("no answer")
		return nil
	}
	offer := ask(dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	ack := ask(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)))
	require.Equal(b.t, dhcpv4.MessageTypeAck, ack.MessageType())
	a, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	return a
}

func TestHostsBehindACardGetAddressesOfTheirOwnByDHCP(t *testing.T) {
	fixed := netip.MustParseAddr("10.0.2.50")
	b := newBench(t, setup{config: func(c *nat.Config) { c.Hosts.Leases = []hostconf.Lease{{MAC: [6]byte{2, 0, 0, 0, 0, 50}, Addr: fixed}} }})
	b.withHosts()
	require.Equal(t, b.IP, b.dhcp(b.MAC))
	second := b.dhcp(secondMAC)
	require.NotEqual(t, b.IP, second, "the first host answers when it is asked for")
	b.Hosts[second] = secondMAC
	require.Equal(t, second, b.dhcp(secondMAC))
	require.NotEqual(t, second, b.dhcp(thirdMAC))
	require.Equal(t, fixed, b.dhcp([6]byte{2, 0, 0, 0, 0, 50}))
	require.Equal(t, b.IP, b.dhcp(b.MAC))

	// The guest's card gets another MAC address: nobody answers at the old one any more.
	b.MAC = [6]byte{2, 0, 0, 0, 0, 99}
	require.Equal(t, b.IP, b.dhcp(b.MAC), "the guest keeps what it is promised")
}

// The server's answers go to everybody if the client says that it takes no others yet. What comes after does not.
func TestTheHostThatAskedByDHCPIsKnownByItsOwnMACAddress(t *testing.T) {
	listen := porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.Forwards = []spec.Forward{{Proto: tcp, Host: listen, Guest: netip.AddrPortFrom(c.Guest, 80), Count: 1}}
	}})
	b.Hosts = map[netip.Addr][6]byte{}
	require.Equal(t, b.IP, b.dhcp(b.MAC))
	b.Frames()
	b.Listen(80)
	client, err := net.DialTimeout("tcp4", listen.String(), time.Minute)
	require.NoError(t, err)
	defer client.Close()
	var syn *porttest.Frame
	b.Until("the call", func() bool {
		for _, f := range b.Frames() {
			if f.TCP != nil {
				syn = f
			}
		}
		return syn != nil
	})
	require.Equal(t, b.MAC[:], syn.Bytes[:6])
}

func TestAGuestThatComesWithAnotherMACAddressGetsThePromisedAddressAtOnce(t *testing.T) {
	b := newBench(t, setup{})
	b.withHosts()
	require.Equal(t, b.IP, b.dhcp(b.MAC))
	b.Disconnect()
	b.Turn()
	b.Reconnect(true)
	b.Settle()
	start := b.Now()
	require.Equal(t, b.IP, b.dhcp(thirdMAC))
	require.Less(t, b.Now()-start, int64(5*time.Second), "without asking twice")
}

func TestADeclinedAddressIsToldOfAndNotGivenAgain(t *testing.T) {
	b := newBench(t, setup{})
	b.withHosts()
	a := b.dhcp(b.MAC)
	require.Equal(t, b.IP, a)
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(b.MAC[:]), dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a.AsSlice())), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(b.Gateway.AsSlice())))
	require.NoError(t, err)
	b.SendDatagram(porttest.Datagram{
		Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: m.ToBytes(),
	})
	b.Settle()
	require.NotEqual(t, a, b.dhcp(b.MAC))
	require.Equal(t, "address", b.Notices()[0].Key)
	require.Equal(t, a.String(), b.Notices()[0].Value)
}

func TestHostsBehindACardGetAddressesOfTheirOwnByDHCPv6(t *testing.T) {
	b := newBench6(t, setup{})
	b.withHosts()
	ask := func(mac [6]byte) netip.Addr {
		m := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeSolicit}
		m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: mac[:]}))
		m.AddOption(&dhcpv6.OptIANA{})
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		link := netip.MustParseAddr("fe80::1")
		b.Hosts[link] = mac
		for range 5 {
			b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(link, 546), Dst: netip.MustParseAddrPort("[ff02::1:2]:547"), Payload: m.ToBytes()})
			b.Run(2 * time.Second)
			for _, d := range b.Datagrams() {
				r, err := dhcpv6.MessageFromBytes(d.Payload)
				require.NoError(t, err)
				a, _ := netip.AddrFromSlice(r.Options.OneIANA().Options.OneAddress().IPv6Addr)
				return a
			}
		}
		t.Fatal("no answer")
		return netip.Addr{}
	}
	require.Equal(t, b.IP6, ask(b.MAC))
	second := ask(secondMAC)
	require.NotEqual(t, b.IP6, second)
	require.Equal(t, second, ask(secondMAC))
	require.Equal(t, b.IP6, ask(b.MAC))
}

func TestManyMACAddressesHarmNobodyElse(t *testing.T) {
	b := newBench(t, setup{})
	b.withHosts()
	c, host := b.connect()
	for n := range 2000 {
		mac := [6]byte{4, 0, 0, 0, byte(n >> 8), byte(n)}
		b.announce(netip.AddrFrom4([4]byte{10, 0, 3, byte(n)}), mac)
		if n%20 == 0 {
			_, err := host.Write([]byte("x"))
			require.NoError(t, err)
			b.Settle()
			b.Advance(100 * time.Millisecond)
		}
	}
	c.WaitFor(100)
}

// Whose frame came last says nothing of whom a datagram from outside is for.
func TestAStrangersDatagramGoesToTheHostThatHasTheAddress(t *testing.T) {
	b, other := newFilterBench(t, nat.EndpointIndependent)
	b.withHosts()
	hello := b.datagram(1, 100)
	b.SendDatagram(hello)
	b.Settle()
	b.hostGets([][]byte{hello.Payload})
	b.pingRouter(secondIP)
	_, err := other.host.WriteToUDPAddrPort(numbered(2, 100), b.from)
	require.NoError(t, err)
	b.Settle()
	b.guestGets([][]byte{numbered(2, 100)})
	_, err = b.host.WriteToUDPAddrPort(numbered(3, 100), b.from)
	require.NoError(t, err)
	b.Settle()
	b.guestGets([][]byte{numbered(3, 100)})
	b.Run(time.Second) // nothing was learned that other flows would follow
	_, err = b.host.WriteToUDPAddrPort(numbered(4, 100), b.from)
	require.NoError(t, err)
	b.Settle()
	b.guestGets([][]byte{numbered(4, 100)})
	require.EqualValues(t, 1, b.port.Counters().StrangersIn)
}
