package nat_test

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// answering is a bench whose guest sends back what comes to its UDP port 80, through forwards on all addresses of the host.
type answering struct {
	*bench
	world *elsewhere
	seen  []netip.AddrPort // from where, in the order of arrival
}

func newAnswering(t *testing.T, world *elsewhere, s setup, forwards ...string) *answering {
	t.Helper()
	inner := s.config
	s.config = func(c *nat.Config) {
		for _, text := range forwards {
			f, err := spec.ParseForward(text)
			require.NoError(t, err)
			c.Forwards = append(c.Forwards, f)
		}
		if inner != nil {
			inner(c)
		}
	}
	b := newBench(t, s)
	b.Resolve()
	return &answering{bench: b, world: world}
}

// answer sends back what has come.
func (a *answering) answer() {
	for _, d := range a.Datagrams() {
		a.seen = append(a.seen, d.Src)
		a.SendDatagram(porttest.Datagram{Src: d.Dst, Dst: d.Src, Payload: d.Payload})
	}
}

// client is a socket elsewhere that is connected to an address of the host, so that it takes answers from there only. With
// from "" it chooses its address.
func (a *answering) client(from, to string) *net.UDPConn {
	a.t.Helper()
	var conn *net.UDPConn
	a.world.do(func() {
		dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { // several may have one port
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		}}
		if from != "" {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(at(from))
		}
		c, err := dialer.Dial("udp", to)
		require.NoError(a.t, err)
		conn = c.(*net.UDPConn)
	})
	a.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends a datagram, and waits for the answer.
func (a *answering) ask(conn *net.UDPConn, payload []byte) {
	a.t.Helper()
	_, err := conn.Write(payload)
	require.NoError(a.t, err)
	a.hears(conn, payload)
}

// hears waits for a datagram at conn.
func (a *answering) hears(conn *net.UDPConn, want []byte) {
	a.t.Helper()
	buf := make([]byte, 65536)
	a.Until("the answer", func() bool {
		a.answer()
		require.NoError(a.t, conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
		n, err := conn.Read(buf)
		if err != nil {
			return false
		}
		requireSame(a.t, want, buf[:n])
		return true
	})
}

// An answer leaves from the address that was asked, on a host that has several.
func TestAnswersOfAForwardLeaveFromTheAddressThatWasAsked(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	world.link("near", []string{"198.18.1.2/24", "198.18.1.22/24", "2001:db8:1::2/64", "2001:db8:1::22/64"},
		[]string{"198.18.1.9/24", "2001:db8:1::9/64"})
	address(t, up(t, "lo"), "203.0.113.7/32")
	world.do(func() {
		far, err := netlink.LinkByName("near-far")
		require.NoError(t, err)
		routeBy(t, far, "203.0.113.0/24", "198.18.1.2", 1)
	})
	for name, features := range map[string]uint64{"one by one": plain | vnet.FeatureMrgRxBuf, "put together": 0} {
		t.Run(name, func(t *testing.T) {
			a := newAnswering(t, world, setup{guest: porttest.Options{Features: features}},
				"udp:0.0.0.0:20020-20021:80-81", "udp:[::]:20020:[fd00:10:0:2::15]:80")
			for i, to := range []string{
				"198.18.1.2:20020", "198.18.1.22:20020", "198.18.1.22:20021", "203.0.113.7:20020",
				"[2001:db8:1::2]:20020", "[2001:db8:1::22]:20020",
			} {
				a.ask(a.client("", to), numbered(i, 200))
			}
			first, second := a.client("198.18.1.9:4000", "198.18.1.2:20020"), a.client("198.18.1.9:4000", "198.18.1.22:20020")
			a.seen = nil
			a.ask(first, numbered(1, 100))
			a.ask(second, numbered(2, 100))
			a.ask(first, numbered(3, 100))
			a.ask(second, numbered(4, 100))
			require.Equal(t, "198.18.1.9:4000", a.seen[0].String())
			require.Equal(t, a.seen[0], a.seen[2])
			require.Equal(t, a.seen[1], a.seen[3])
			require.NotEqual(t, a.seen[0], a.seen[1], "one peer that asks two addresses is two to the guest")
			require.NoError(t, first.Close())
			require.NoError(t, second.Close())
			require.Zero(t, a.port.Counters().UDPRefused)
		})
	}
}

// A peer on the host's link may have no other address than that of the link.
func TestAnswersOfAForwardReachLinkLocalPeers(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	const host, peer = "fe80::2", "fe80::9" // the same on both links
	world.link("near", []string{"fe80::2/64"}, []string{"fe80::9/64"})
	world.link("other", []string{"fe80::2/64"}, []string{"fe80::9/64"})
	a := newAnswering(t, world, setup{}, "udp:[::]:20020:[fd00:10:0:2::15]:80")
	clients := []*net.UDPConn{
		a.client(fmt.Sprintf("[%s%%near-far]:4000", peer), fmt.Sprintf("[%s%%near-far]:20020", host)),
		a.client(fmt.Sprintf("[%s%%other-far]:4000", peer), fmt.Sprintf("[%s%%other-far]:20020", host)),
	}
	for i := range 3 {
		for j, c := range clients {
			a.ask(c, numbered(10*i+j, 100))
		}
	}
	require.EqualValues(t, 2, a.port.Counters().UDPFlows)
}

// Of two ways to a peer, the answer takes that by which it was asked; if no route leads there, the one that there is.
func TestAnswersOfAForwardLeaveByTheInterfaceThatTheyWereAskedBy(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for family, f := range families {
		t.Run(family, func(t *testing.T) {
			world := newElsewhere(t)
			first := world.link("near", []string{f.near}, []string{f.far})
			second := world.link("near2", []string{f.near2}, []string{f.far2})
			defer func() { require.NoError(t, netlink.LinkDel(first)); require.NoError(t, netlink.LinkDel(second)) }()
			world.do(func() {
				address(t, up(t, "lo"), f.service+hostBits(f.service))
				sysctl(t, "net.ipv4.conf.all.arp_ignore", "1") // the service is nobody's neighbour
				sysctl(t, "net.ipv4.conf.all.arp_announce", "2")
			})
			guest := "80"
			if family == "IPv6" {
				guest = "[fd00:10:0:2::15]:80"
			}
			routeBy(t, first, f.all, addressOf(f.far), 50)
			routeBy(t, second, f.all, addressOf(f.far2), 100)
			all := netip.AddrPortFrom(netip.MustParseAddr(addressOf(f.near2)), 20020).String()
			any := map[string]string{"IPv4": "0.0.0.0", "IPv6": "[::]"}[family]
			a := newAnswering(t, world, setup{}, "udp:"+any+":20020:"+guest)
			client := a.client(netip.AddrPortFrom(netip.MustParseAddr(f.service), 4000).String(), all)
			before := sentBy(t, second)
			a.ask(client, numbered(1, 100))
			a.ask(client, numbered(2, 100))
			require.GreaterOrEqual(t, sentBy(t, second)-before, uint64(2), "the better route is by the other link")

			require.NoError(t, netlink.RouteDel(&netlink.Route{
				LinkIndex: second.Attrs().Index, Dst: prefix(t, f.all), Gw: net.ParseIP(addressOf(f.far2)), Priority: 100,
			}))
			a.Run(time.Second)
			a.ask(client, numbered(3, 100))
		})
	}
}

// sentBy returns how many packets have left by an interface.
func sentBy(t *testing.T, link netlink.Link) uint64 {
	t.Helper()
	now, err := netlink.LinkByIndex(link.Attrs().Index)
	require.NoError(t, err)
	return now.Attrs().Statistics.TxPackets
}

// prefix is a network by its text.
func prefix(t *testing.T, text string) *net.IPNet {
	t.Helper()
	n, err := netlink.ParseIPNet(text)
	require.NoError(t, err)
	return n
}

// A host may lose the address that was asked. Who is not particular about the sender gets the answer by another one.
func TestAnswersOfAForwardGoOnWhenTheAddressIsGone(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	link := world.link("near", []string{"198.18.1.2/24", "198.18.1.22/24"}, []string{"198.18.1.9/24", "198.18.1.10/24"})
	a := newAnswering(t, world, setup{}, "udp:0.0.0.0:20020:80")
	gone := a.client("198.18.1.9:4000", "198.18.1.22:20020")
	a.ask(gone, numbered(1, 100))
	require.NoError(t, gone.Close())
	var open *net.UDPConn
	world.do(func() {
		var err error
		open, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at("198.18.1.9:4000")))
		require.NoError(t, err)
	})
	defer open.Close()

	removeAddress(t, link, "198.18.1.22/24")
	guest := netip.AddrPortFrom(a.IP, 80)
	for i := range 3 {
		a.SendDatagram(porttest.Datagram{Src: guest, Dst: at("198.18.1.9:4000"), Payload: numbered(i, 100)})
		a.hears(open, numbered(i, 100))
	}
	require.Zero(t, a.port.Counters().UDPRefused)
	require.NoError(t, open.Close())

	address(t, link, "198.18.1.22/24")
	a.ask(a.client("198.18.1.9:4000", "198.18.1.22:20020"), numbered(9, 100))
	require.EqualValues(t, 1, a.port.Counters().UDPFlows)
}

// What is sent to all is answered by one: from the host's own address on that link.
func TestAForwardAnswersABroadcastFromTheHostsAddress(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	world.link("near", []string{"198.18.1.2/24", "2001:db8:1::2/64"}, []string{"198.18.1.9/24", "2001:db8:1::9/64"})
	for all, c := range map[string]struct{ forward, peer, host string }{
		"198.18.1.255:20020":       {"udp:0.0.0.0:20020:80", "198.18.1.9:4000", "198.18.1.2:20020"},
		"[ff02::1%near-far]:20020": {"udp:[::]:20020:[fd00:10:0:2::15]:80", "[2001:db8:1::9]:4000", "[2001:db8:1::2]:20020"},
	} {
		t.Run(all, func(t *testing.T) {
			a := newAnswering(t, world, setup{}, c.forward)
			var conn *net.UDPConn
			world.do(func() {
				var err error
				conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at(c.peer))) // Go permits broadcasts
				require.NoError(t, err)
			})
			defer conn.Close()
			buf := make([]byte, 100)
			a.Until("the answer", func() bool {
				world.do(func() { // there the link has its name
					_, err := conn.WriteToUDPAddrPort([]byte("who is there"), at(all)) // again: the link may just come up
					require.NoError(t, err)
				})
				a.answer()
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
				_, from, err := conn.ReadFromUDPAddrPort(buf)
				return err == nil && from == at(c.host)
			})
			require.Equal(t, a.port.Counters().UDPSent, a.port.Counters().UDPSends, "nothing had to be tried twice")
		})
	}
}

// Errors about answers find the flow though it is one of several of the same peer.
func TestErrorsAboutAnswersOfAForwardFindTheirFlow(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	world.link("near", []string{"198.18.1.2/24", "198.18.1.22/24"}, []string{"198.18.1.9/24"})
	a := newAnswering(t, world, setup{}, "udp:0.0.0.0:20020:80")
	for i, to := range []string{"198.18.1.2:20020", "198.18.1.22:20020"} {
		c := a.client("198.18.1.9:4000", to)
		a.ask(c, numbered(i, 100))
		require.NoError(t, c.Close())
	}
	a.Frames()
	d := porttest.Datagram{Src: netip.AddrPortFrom(a.IP, 80), Dst: a.seen[1], Payload: noise(50)}
	a.SendDatagram(d)
	u := &udpBench{bench: a.bench}
	f := u.errorsOf(1)[0]
	require.EqualValues(t, 3, f.ICMP.Code)
	requireQuoted(t, &d, f.ICMP.Payload)
}
