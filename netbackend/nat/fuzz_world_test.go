package nat_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// More bits of the first byte of a script of FuzzWorld.
const (
	openFiltering = 16 // endpoint-independent filtering of UDP
	toldAll       = 32 // hosts are told all there is, and some have fixed addresses
)

// Ports of the world's host.
const (
	echoPort     = 7
	strangerPort = 69 // what comes here is answered from another port
)

// FuzzWorld is FuzzFrames with a world around the host: two routers and another host (see newRouters), to which every way is open.
// They answer as such do: datagrams and streams come back, errors about what does not arrive, echo replies. It is all in
// namespaces of the fuzzer's own.
func FuzzWorld(f *testing.F) {
	w := newFuzzWorld(f)
	for _, script := range w.seeds(f) {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 {
			return
		}
		w.enter(t)
		cfg := w.config(t, script[0], 8000)
		port, g := newFuzzedBy(t, cfg, script[0])
		for _, forward := range cfg.Forwards {
			w.comeThrough(t, forward)
		}
		playAll(t, port, g, script[1:])
	})
}

// fuzzWorld is a host in a namespace, and the world behind it.
type fuzzWorld struct {
	home, host *os.File // namespaces: where the fuzzer is at home, and the host's
	resolver   netip.AddrPort
}

func newFuzzWorld(f *testing.F) *fuzzWorld {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := &fuzzWorld{home: ownNamespace(f)}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		f.Skipf("no network namespace is to be had here: %v", err)
	}
	defer w.goHome(f)
	w.host = ownNamespace(f)
	up(f, "lo")
	r := newRouters(f)
	r.second.mtu("to-world", 1400)
	r.world.mtu("uplink", 1400)
	w.resolver = newFuzzService(f)
	r.world.do(func() error { return serveWorld(f) })
	return w
}

func ownNamespace(t testing.TB) *os.File {
	ns, err := os.Open("/proc/thread-self/ns/net")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func (w *fuzzWorld) goHome(t testing.TB) {
	require.NoError(t, unix.Setns(int(w.home.Fd()), unix.CLONE_NEWNET))
}

// enter puts the rest of a test into the host's namespace.
func (w *fuzzWorld) enter(t testing.TB) {
	runtime.LockOSThread()
	require.NoError(t, unix.Setns(int(w.host.Fd()), unix.CLONE_NEWNET))
	t.Cleanup(func() { // after the engine has been closed
		w.goHome(t)
		runtime.UnlockOSThread()
	})
}

// serveWorld begins what the world's host does.
func serveWorld(f *testing.F) error {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: echoPort})
	if err != nil {
		return err
	}
	f.Cleanup(func() { _ = l.Close() })
	go func() {
		for c, err := l.AcceptTCP(); err == nil; c, err = l.AcceptTCP() {
			go greet(c)
		}
	}()
	var sockets [3]*net.UDPConn
	for i, port := range []int{echoPort, strangerPort, 0} {
		if sockets[i], err = net.ListenUDP("udp", &net.UDPAddr{Port: port}); err != nil {
			return err
		}
		f.Cleanup(func() { _ = sockets[i].Close() })
	}
	answer := func(in, out *net.UDPConn) {
		buf := make([]byte, 65536)
		for n, from, err := in.ReadFromUDPAddrPort(buf); err == nil; n, from, err = in.ReadFromUDPAddrPort(buf) {
			_, _ = out.WriteToUDPAddrPort(buf[:n], from)
		}
	}
	go answer(sockets[0], sockets[0])
	go answer(sockets[1], sockets[2])
	go answer(sockets[2], sockets[2])
	return nil
}

// config is the engine's. Its forwards listen on a port of all addresses of the host.
func (w *fuzzWorld) config(t testing.TB, choice byte, port uint16) nat.Config {
	cfg := nat.DefaultConfig()
	cfg.Resolvers = dns.Plain(w.resolver)
	cfg.MaxFlows = fuzzFlows
	cfg.InitialSequence = func() uint32 { return 1000 }
	cfg.PeekOffset = cfg.PeekOffset && choice&withoutPeekOffset == 0
	if choice&openFiltering != 0 {
		cfg.UDPFiltering = nat.EndpointIndependent
	}
	if choice&withClients != 0 {
		any, guest := netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.MustParseAddrPort("10.0.2.15:80")
		cfg.Forwards = []spec.Forward{
			{Proto: tcp, Host: any, Guest: guest, Count: 1}, {Proto: udp, Host: any, Guest: guest, Count: 1},
		}
	}
	if choice&toldAll != 0 {
		cfg.Search, cfg.Hosts = []string{"eng.example.org", "example.org"}, allOfHosts(t)
	}
	return cfg
}

// allOfHosts is what hosts can be told.
func allOfHosts(t testing.TB) (c hostconf.Config) {
	c.NTP = []netip.Addr{netip.MustParseAddr("192.0.2.123"), netip.MustParseAddr("2001:db8::123")}
	c.BootServers = []netip.Addr{netip.MustParseAddr("192.0.2.69"), netip.MustParseAddr("2001:db8::69")}
	c.Routes = []hostconf.Route{{Network: netip.MustParsePrefix("192.168.7.0/24"), Router: netip.MustParseAddr("10.0.2.50")}}
	c.BootFiles = []hostconf.BootFile{{Client: "ipxe", Name: "http://h/x.ipxe"}, {Name: "undionly.kpxe"}}
	c.Leases = []hostconf.Lease{{MAC: thirdMAC, Addr: netip.MustParseAddr("10.0.2.50")}, {MAC: thirdMAC, Addr: netip.MustParseAddr("fd00:10:0:2::50")}}
	o, err := hostconf.ParseOption("44=192.0.2.44")
	require.NoError(t, err)
	o6, err := hostconf.ParseOption6("21=text:sip")
	require.NoError(t, err)
	c.Options, c.Options6 = []hostconf.Option{o}, []hostconf.Option{o6}
	return c
}

// comeThrough sends data through a forward that listens everywhere.
func (w *fuzzWorld) comeThrough(t testing.TB, forward spec.Forward) net.Conn {
	forward.Host = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), forward.Host.Port())
	return comeThrough(t, forward)
}

// seeds are scripts of what guests do.
func (w *fuzzWorld) seeds(f *testing.F) (scripts [][]byte) {
	w.enter(f)
	port := uint16(8001)
	record := func(choice byte, scene func(g *porttest.Guest)) {
		cfg := w.config(f, choice, port)
		port++
		scripts = append(scripts, record(f, cfg, choice, func(g *porttest.Guest) {
			g.Resolve()
			for _, forward := range cfg.Forwards {
				c := w.comeThrough(f, forward)
				defer c.Close() // the next one comes from the same port
			}
			scene(g)
		}))
	}
	for _, to := range []string{theWorld, theWorld6} {
		there := netip.MustParseAddr(to)
		record(0, func(g *porttest.Guest) { exchangeDatagrams(g, netip.AddrPortFrom(there, echoPort)) })
		record(openFiltering, func(g *porttest.Guest) { exchangeDatagrams(g, netip.AddrPortFrom(there, strangerPort)) })
		record(0, func(g *porttest.Guest) { download(g, netip.AddrPortFrom(there, echoPort)) })
		record(0, func(g *porttest.Guest) { traceRoute(g, there) })
		record(0, func(g *porttest.Guest) { pingAll(g, there) })
		record(0, func(g *porttest.Guest) { leaveIncomplete(g, there) })
		record(0, func(g *porttest.Guest) { speakOthers(g, there) })
	}
	record(0, beTwoHosts)
	record(toldAll, askByDHCP)
	record(toldAll, askByDHCPv6)
	record(withClients, answerClients)
	record(withClients|withoutPeekOffset, refuseClients)
	return scripts
}

// reportUDP sends ICMP errors about a datagram that the guest got: it is too big, lost, unwanted.
func reportUDP(g *porttest.Guest, d *porttest.Datagram) {
	head := binary.BigEndian.AppendUint16(nil, d.Src.Port())
	head = binary.BigEndian.AppendUint16(head, d.Dst.Port())
	head = binary.BigEndian.AppendUint32(head, uint32(8+len(d.Payload))<<16)
	if d.Src.Addr().Is4() {
		quote := g.IPv4(unix.IPPROTO_UDP, d.Src.Addr(), d.Dst.Addr(), head, d.Payload)[14 : 14+20+8]
		g.SendICMP(d.Src.Addr(), tooBig(600, quote))
		g.SendICMP(d.Src.Addr(), porttest.ICMP{Type: 3, Code: 1, Payload: quote})
		g.SendICMP(d.Src.Addr(), porttest.ICMP{Type: 3, Code: 3, Payload: quote})
		return
	}
	quote := g.IPv6(unix.IPPROTO_UDP, d.Src.Addr(), d.Dst.Addr(), head, d.Payload)[14 : 14+40+8]
	g.SendICMP(d.Src.Addr(), tooBig(1280, quote))
	g.SendICMP(d.Src.Addr(), porttest.ICMP{Type: 1, Code: 4, Payload: quote})
}

// exchangeDatagrams sends datagrams, also longer than a frame and to a port that is closed, and complains of the answers.
func exchangeDatagrams(g *porttest.Guest, to netip.AddrPort) {
	d := porttest.Datagram{Src: netip.AddrPortFrom(g.Source(to.Addr()), 5000), Dst: to, Payload: noise(1340)}
	g.SendDatagram(d)
	var got []*porttest.Datagram
	g.Until("an answer", func() bool { got = append(got, g.Datagrams()...); return len(got) > 0 })
	g.SendDatagram(porttest.Datagram{Src: d.Src, Dst: got[0].Src, Payload: noise(9)})
	reportUDP(g, got[0])
	long := d
	long.Payload = noise(4000)
	for _, f := range long.Cut(1, 1448) {
		g.SendFragment(f)
	}
	closed := d
	closed.Dst = netip.AddrPortFrom(to.Addr(), 9)
	g.SendDatagram(closed)
	g.Settle()
	g.SendDatagram(closed)
}

// download gets data and complains of their length, is urgent, and ends.
func download(g *porttest.Guest, to netip.AddrPort) {
	c := g.Connect(to, porttest.TCPOptions{ISS: 5000, LocalPort: 5000, WScale: 7})
	c.WaitFor(5000)
	c.ManualAck = true // what comes now is under way when the guest complains
	c.Send(noise(3000))
	c.WaitFor(8000)
	for _, s := range c.Segments {
		if len(s.Payload) > 0 {
			quote := (&bench{Guest: g}).quoteOf(&s)
			g.SendICMP(to.Addr(), tooBig(1300, quote))
			g.SendICMP(to.Addr(), porttest.ICMP{Type: 3, Code: 1, Payload: quote})
		}
	}
	c.ManualAck = false
	c.SendAck()
	hurry(c)
	g.Settle()
}

// traceRoute sends probes of all kinds that go one hop further each time.
func traceRoute(g *porttest.Guest, to netip.Addr) {
	b := &bench{Guest: g}
	for hops := range uint8(4) {
		b.as(travel{hops: hops + 1, tos: 0xba})
		g.SendDatagram(porttest.Datagram{
			Src: netip.AddrPortFrom(g.Source(to), 5000), Dst: netip.AddrPortFrom(to, tracePort+uint16(hops)), Payload: noise(32),
		})
		b.echoTo(to.String(), traceID, uint16(hops), noise(32))
		g.Dial(netip.AddrPortFrom(to, 9), porttest.TCPOptions{ISS: 5000, LocalPort: 5000 + uint16(hops)})
		g.Settle()
	}
	g.Alter = nil
}

// pingAll sends echo requests, long ones and such that must not be cut, to the world and to the router.
func pingAll(g *porttest.Guest, to netip.Addr) {
	b := &bench{Guest: g}
	router, kind := g.Gateway, uint8(8)
	if to.Is6() {
		router, kind = g.Gateway6, 128
	}
	b.as(travel{hops: 64, whole: true})
	b.echoTo(to.String(), traceID, 1, noise(1440))
	g.Settle()
	g.Alter = nil
	b.echoTo(to.String(), traceID, 1, noise(56))
	for id, dst := range []netip.Addr{to, router} {
		for _, f := range g.CutICMP(dst, porttest.ICMP{Type: kind, Rest: traceID << 16, Payload: noise(3000)}, uint32(id)+1, 1448) {
			g.SendFragment(f)
		}
		g.Settle()
	}
	b.echoTo(netip.MustParseAddr("198.18.0.1").String(), traceID, 2, noise(56)) // nobody knows the way
}

// leaveIncomplete sends the first fragment of what never comes.
func leaveIncomplete(g *porttest.Guest, to netip.Addr) {
	d := porttest.Datagram{Src: netip.AddrPortFrom(g.Source(to), 5000), Dst: netip.AddrPortFrom(to, echoPort), Payload: noise(3000)}
	g.SendFragment(d.Cut(1, 1448)[0])
	g.SendFragment(d.Cut(2, 1448)[1])
	g.Run(31 * time.Second)
	g.SendDatagram(porttest.Datagram{Src: d.Src, Dst: d.Dst, Payload: noise(9)})
}

// speakOthers sends what is no conversation by TCP, UDP or pings.
func speakOthers(g *porttest.Guest, to netip.Addr) {
	b := &bench{Guest: g}
	for _, proto := range []uint8{unix.IPPROTO_GRE, unix.IPPROTO_SCTP, unix.IPPROTO_NONE, unix.IPPROTO_HOPOPTS} {
		b.sendProtocol(proto, to.String(), noise(40))
	}
	groups := []string{"224.0.0.251:5353", "10.0.2.255:137", "255.255.255.255:137"}
	if to.Is6() {
		groups = []string{"[ff02::fb]:5353"}
	}
	for _, group := range groups {
		dst := netip.MustParseAddrPort(group)
		g.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(g.Source(to), 5353), Dst: dst, Payload: noise(9)})
	}
	b.sendProtocol(unix.IPPROTO_IGMP, "224.0.0.22", noise(8))
}

// beTwoHosts lets a second host speak from behind the same card.
func beTwoHosts(g *porttest.Guest) {
	b := &bench{Guest: g}
	b.withHosts()
	b.announce(secondIP, secondMAC)
	for range 2 {
		for _, from := range []netip.Addr{g.IP, secondIP} {
			g.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(from, 5000), Dst: netip.MustParseAddrPort(theWorld + ":7"), Payload: noise(50)})
		}
		g.Settle()
	}
	delete(g.Hosts, secondIP) // answers that are still under way go to either of them
	b.announce(secondIP, g.MAC)
}

// askByDHCP is all that clients say, one of which boots from the network.
func askByDHCP(g *porttest.Guest) {
	server, mine := dhcpv4.OptServerIdentifier(g.Gateway.AsSlice()), g.IP.AsSlice()
	send := func(mac [6]byte, kind dhcpv4.MessageType, more ...dhcpv4.Modifier) {
		m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac[:]), dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(true)}, more...)...)
		if err == nil {
			g.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: m.ToBytes()})
			g.Settle()
		}
	}
	send(g.MAC, dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007")), dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
	send(g.MAC, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(server), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(mine)))
	send(secondMAC, dhcpv4.MessageTypeDiscover, dhcpv4.WithGeneric(dhcpv4.OptionRapidCommit, nil))
	send(thirdMAC, dhcpv4.MessageTypeDiscover)
	send(g.MAC, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(mine))
	send(g.MAC, dhcpv4.MessageTypeDecline, dhcpv4.WithOption(server), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(mine)))
	send(g.MAC, dhcpv4.MessageTypeRelease, dhcpv4.WithOption(server), dhcpv4.WithClientIP(mine))
}

// askByDHCPv6 is askByDHCP for DHCPv6.
func askByDHCPv6(g *porttest.Guest) {
	b := &bench{Guest: g}
	b.withHosts()
	link := netip.MustParseAddr("fe80::1")
	for _, kind := range []dhcpv6.MessageType{dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRebind, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeInformationRequest} {
		for _, mac := range [][6]byte{g.MAC, secondMAC} {
			m := &dhcpv6.Message{MessageType: kind}
			m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac[:]}))
			m.AddOption(&dhcpv6.OptIANA{Options: dhcpv6.IdentityOptions{Options: dhcpv6.Options{&dhcpv6.OptIAAddress{IPv6Addr: g.IP6.AsSlice()}}}})
			m.AddOption(dhcpv6.OptClientArchType(iana.EFI_X86_64))
			g.Hosts[link] = mac
			g.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(link, 546), Dst: netip.MustParseAddrPort("[ff02::1:2]:547"), Payload: m.ToBytes()})
			g.Settle()
		}
	}
}

// answerClients serves those who come through forwards.
func answerClients(g *porttest.Guest) {
	l := g.Listen(80)
	var got []*porttest.Datagram
	g.Until("the clients' data have come", func() bool {
		got = append(got, g.Datagrams()...)
		c := l.Pending()
		return len(got) > 0 && len(c) == 1 && len(c[0].Received()) == 2000
	})
	g.SendDatagram(porttest.Datagram{Src: got[0].Dst, Dst: got[0].Src, Payload: noise(100)})
	c := l.Accept()
	c.Send(noise(3000))
	c.Close()
	g.Settle()
}

// refuseClients says by ICMP that nobody takes what comes through forwards.
func refuseClients(g *porttest.Guest) {
	l := g.Listen(80)
	l.Mute = true
	g.Settle()
	for _, f := range g.Frames() {
		switch {
		case f.TCP != nil:
			g.SendICMP(f.TCP.Src.Addr(), porttest.ICMP{Type: 3, Code: 10, Payload: (&bench{Guest: g}).quoteOf(f.TCP)})
		case f.UDP != nil:
			reportUDP(g, f.UDP)
		}
	}
}
