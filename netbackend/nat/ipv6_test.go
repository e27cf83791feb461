package nat_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// newBench6 is newBench, with the host's port on ::1, which the guest reaches by the gateway's IPv6 address.
func newBench6(t *testing.T, s setup) *bench {
	t.Helper()
	l, open := listen6(t)
	inner := s.config
	s.config = func(c *nat.Config) {
		open(c)
		if inner != nil {
			inner(c)
		}
	}
	s.closed = true
	b := newBench(t, s)
	b.moveTo6(l)
	return b
}

// listen6 opens a port of ::1, and returns what opens it to the guest, by TCP and UDP.
func listen6(t *testing.T) (l *net.TCPListener, open func(*nat.Config)) {
	t.Helper()
	l, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	port := addrPort(l.Addr()).Port()
	return l, func(c *nat.Config) {
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: tcp, Port: port}, spec.HostService{Proto: udp, Port: port})
	}
}

// moveTo6 makes the server of the bench one of listen6.
func (b *bench) moveTo6(l *net.TCPListener) {
	b.t.Helper()
	b.listen, b.server = l, netip.AddrPortFrom(b.Gateway6, addrPort(l.Addr()).Port())
	b.Resolve()
}

// newUDPBench6 is newUDPBench with the host's socket on ::1.
func newUDPBench6(t *testing.T, s setup) *udpBench {
	t.Helper()
	b := newBench6(t, s)
	return &udpBench{bench: b, host: b.listenUDP()}
}

// datagram6 is datagram from the guest's IPv6 address.
func (b *udpBench) datagram6(number, n int) porttest.Datagram {
	return porttest.Datagram{Src: netip.AddrPortFrom(b.IP6, 1024), Dst: b.server, Payload: numbered(number, n)}
}

func TestStreamsPassOverIPv6(t *testing.T) {
	for name, features := range map[string]uint64{
		"all offloads":   0,
		"no large ones":  leastOffers(t)&^(vnet.FeatureHostTSO6|vnet.FeatureGuestTSO6) | vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf,
		"no checksum":    vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf,
		"only IPv4's":    leastOffers(t)&^vnet.FeatureGuestTSO6 | vnet.FeatureVersion1,
		"a legacy guest": leastOffers(t),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench6(t, setup{guest: porttest.Options{Features: features}})
			c, host := b.connect(porttest.TCPOptions{WScale: 7, Window: 1 << 20, SACK: true, Times: true})
			require.Equal(t, 1500-40-20-12, c.PeerMSS)
			const size = 1 << 20
			c.Send(noise(size))
			requireSame(t, noise(size), b.readSome(host, size))

			b.Frames()
			go func() {
				_, _ = host.Write(noise(size))
				_ = host.CloseWrite()
			}()
			b.Until("all of it, and its end", func() bool { return c.FinReceived })
			requireSame(t, noise(size), c.Read())
			longest := 0
			for _, f := range b.Frames() { // porttest has checked type, length and checksum of each
				longest = max(longest, len(f.Bytes))
			}
			if features == 0 {
				require.Greater(t, longest, 60_000)
			} else if features&vnet.FeatureGuestTSO6 == 0 {
				require.Equal(t, 14+1500, longest)
			}
			c.Close()
			b.Until("both have ended", func() bool { return c.FinAcked })
			b.Settle()
			require.Zero(t, b.Sockets())
		})
	}
}

func TestAConnectionOverIPv6EndsAsItsHostsSideDoes(t *testing.T) {
	b := newBench6(t, setup{})
	t.Run("refused", func(t *testing.T) {
		require.NoError(t, b.listen.Close())
		c := b.Dial(b.server)
		b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	})
	t.Run("the policy is against", func(t *testing.T) {
		c := b.Dial(netip.AddrPortFrom(b.Gateway6, 9))
		b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	})
	b = newBench6(t, setup{})
	c, host := b.connect()
	require.NoError(t, host.SetLinger(0))
	require.NoError(t, host.Close())
	b.Until("it is reset", func() bool { return c.State == porttest.WasReset })
	require.Equal(t, map[string]int{"ended_by_host": 1}, b.endings())
}

func TestDatagramsPassOverIPv6(t *testing.T) {
	abilities(t, func(t *testing.T, s setup) {
		b := newUDPBench6(t, s)
		var want [][]byte
		for i := range 40 {
			d := b.datagram6(i, 1000+i/30)
			b.SendDatagram(d)
			want = append(want, d.Payload)
		}
		b.Turn()
		b.hostGets(want)
		for i, w := range want {
			want[i] = append([]byte("answer "), w...)
			_, err := b.host.WriteToUDPAddrPort(want[i], b.from)
			require.NoError(t, err)
		}
		b.guestGets(want)
	})
}

func TestSegmentsOfDatagramsPassOverIPv6(t *testing.T) {
	if !hostcaps.HasUDPSegment() {
		t.Skip("this kernel does not cut datagrams")
	}
	b := newUDPBench6(t, setup{})
	d := b.datagram6(0, 5*1200+7)
	d.GSOSize = 1200
	b.SendDatagram(d)
	b.Turn()
	var want [][]byte
	for at := 0; at < len(d.Payload); at += 1200 {
		want = append(want, d.Payload[at:min(at+1200, len(d.Payload))])
	}
	b.hostGets(want)
}

func TestLongDatagramsPassOverIPv6InFragments(t *testing.T) {
	b := newUDPBench6(t, setup{})
	b.SendDatagram(b.datagram6(0, 9))
	b.Settle()
	b.hostGets([][]byte{b.datagram6(0, 9).Payload})
	for i, n := range []int{1452, 1453, 4000, 65507, 65527} {
		d := b.datagram6(i, n)
		for _, f := range d.Cut(uint32(i)<<16, 1448) {
			b.SendFragment(f)
		}
		b.Settle()
		b.hostGets([][]byte{d.Payload})

		_, err := b.host.WriteToUDPAddrPort(d.Payload, b.from)
		require.NoError(t, err)
		b.guestGets([][]byte{d.Payload})
	}
	for _, f := range b.Frames() {
		require.LessOrEqual(t, len(f.Bytes), 14+1500)
	}
	require.EqualValues(t, 4, b.port.Counters().LongDatagrams)
}

// A packet may have a fragment's header without being one (RFC 6946).
func TestAFragmentThatIsTheWholeIsTakenAsSuch(t *testing.T) {
	b := newUDPBench6(t, setup{})
	d := b.datagram6(1, 100)
	b.SendFragment(d.Cut(7, 1448)[0])
	b.Settle()
	b.hostGets([][]byte{d.Payload})
}

// icmp6 waits for an ICMPv6 message of a type, and returns its frame.
func (b *bench) icmp6(kind uint8) (found *porttest.Frame) {
	b.t.Helper()
	b.Until("an ICMPv6 message", func() bool {
		for _, f := range b.Frames() {
			if f.ICMP != nil && f.Src.Is6() && f.ICMP.Type == kind {
				found = f
			}
		}
		return found != nil
	})
	return found
}

func TestWhatBecomesOfDatagramsIsToldInICMPv6(t *testing.T) {
	b := newUDPBench6(t, setup{})
	closed := b.datagram6(1, 50)
	require.NoError(t, b.host.Close())
	b.SendDatagram(closed)
	f := b.icmp6(1)
	require.EqualValues(t, 4, f.ICMP.Code, "port unreachable")
	require.Equal(t, b.server.Addr(), f.Src, "told by whom it was sent to")
	quoted := header.IPv6(f.ICMP.Payload)
	require.Equal(t, b.IP6.AsSlice(), quoted.SourceAddressSlice())
	require.Equal(t, b.server.Addr().AsSlice(), quoted.DestinationAddressSlice())
	require.EqualValues(t, 8+50, quoted.PayloadLength())
	require.EqualValues(t, b.server.Port(), binary.BigEndian.Uint16(f.ICMP.Payload[40+2:]))
	requireSame(t, closed.Payload, f.ICMP.Payload[48:])

	b.SendDatagram(porttest.Datagram{Src: closed.Src, Dst: at("[2001:db8::9]:5"), Payload: []byte("x"), TTL: 1})
	f = b.icmp6(3)
	require.Equal(t, b.Gateway6, f.Src)

	for _, c := range []struct {
		to   string
		code uint8
	}{
		{"[fd00:10:0:2::99]:5", 3}, // nobody of the guest's network: address unreachable
		{"[fe80::99]:5", 3},
		{"[fd00:ec2::254]:80", 1}, // prohibited
		{"[fd00:10:0:2::3]:5", 4}, // the name server has only one service
		{"[::1]:5", 1},
	} {
		b.SendDatagram(porttest.Datagram{Src: closed.Src, Dst: at(c.to), Payload: []byte("x")})
		require.Equal(t, c.code, b.icmp6(1).ICMP.Code, c.to)
	}
}

func TestTheRouterIsPingedOverIPv6(t *testing.T) {
	b := newBench6(t, setup{})
	for i, n := range []int{0, 1, 56, 1452} {
		for _, to := range []string{"fd00:10:0:2::2", "fd00:10:0:2::3", "fe80::5055:aff:fe00:202"} {
			b.SendICMP(netip.MustParseAddr(to), porttest.ICMP{Type: 128, Rest: uint32(i), Payload: noise(n)})
			f := b.icmp6(129)
			require.Equal(t, to, f.Src.String())
			require.EqualValues(t, i, f.ICMP.Rest)
			requireSame(t, noise(n), f.ICMP.Payload)
		}
	}
}

func TestTheGuestIsToldItsIPv6Network(t *testing.T) {
	b := newBench6(t, setup{config: func(c *nat.Config) { c.Domain = "example.org" }})
	b.SendICMP(netip.MustParseAddr("ff02::2"), porttest.ICMP{Type: 133})
	f := b.icmp6(134)
	require.Equal(t, "fe80::5055:aff:fe00:202", f.Src.String())
	ad := header.NDPRouterAdvert(f.Bytes[14+40+4:])
	require.Equal(t, 30*time.Minute, ad.RouterLifetime())
	it, err := ad.Options().Iter(true)
	require.NoError(t, err)
	var told []string
	for {
		o, done, err := it.Next()
		require.NoError(t, err)
		if done {
			break
		}
		told = append(told, o.String())
	}
	require.Contains(t, told, "header.NDPPrefixInformation(O=true, A=true, PL=45m0s, VL=1h30m0s, Prefix=fd00:10:0:2::/64)")
	require.Contains(t, told, "header.NDPRecursiveDNSServer([fd00:10:0:2::3] valid for 30m0s)")
	require.Contains(t, told, "header.NDPDNSSearchList([example.org] valid for 30m0s)")

	b.SendICMP(netip.MustParseAddr("ff02::1:ff00:2"), porttest.ICMP{Type: 135, Payload: b.Gateway6.AsSlice()})
	require.Equal(t, b.Gateway6, b.icmp6(136).Src)
}

// solicit is what a DHCPv6 client sends first: who it is, and that it wants an address (RFC 8415 section 18.2.1).
var solicit = slices.Concat(
	[]byte{1, 7, 8, 9},
	[]byte{0, 1, 0, 10, 0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56},
	[]byte{0, 3, 0, 12, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0},
)

func TestAnAddressCanBeHadByDHCPv6(t *testing.T) {
	b := newBench6(t, setup{})
	client, servers := at("[fe80::5054:ff:fe12:3456]:546"), at("[ff02::1:2]:547")
	b.IP6 = client.Addr()
	b.SendDatagram(porttest.Datagram{Src: client, Dst: servers, Payload: solicit})
	var got []*porttest.Datagram
	b.Until("an answer", func() bool { got = append(got, b.Datagrams()...); return len(got) > 0 })
	require.Equal(t, at("[fe80::5055:aff:fe00:202]:547"), got[0].Src)
	require.Equal(t, client, got[0].Dst)
	require.Equal(t, []byte{2, 7, 8, 9}, got[0].Payload[:4], "an advertisement, of the same transaction")
	require.True(t, bytes.Contains(got[0].Payload, netip.MustParseAddr("fd00:10:0:2::15").AsSlice()))

	before := b.port.Counters()
	b.SendDatagram(porttest.Datagram{Src: client, Dst: servers, Payload: solicit[:11]})
	b.SendDatagram(porttest.Datagram{Src: at("[fd00:10:0:2::15]:546"), Dst: servers, Payload: solicit})
	b.Settle()
	require.EqualValues(t, 1, b.port.Counters().Malformed-before.Malformed)
	require.EqualValues(t, 1, b.port.Counters().Multicast-before.Multicast, "clients have link-local addresses")
	require.Empty(t, b.Datagrams())
}

// Who relies on the router goes on relying on it, also if vring has been restarted meanwhile.
func TestTheRouterIsAdvertisedAgainAndAgain(t *testing.T) {
	b := newUDPBench6(t, setup{})
	b.Run(time.Hour)
	require.Empty(t, b.Frames()[1:], "the answer to ARP is all: the guest speaks no IPv6 yet")
	b.SendDatagram(b.datagram6(0, 9))
	b.icmp6(134)
	b.Run(time.Hour)
	n := 0
	for _, f := range b.Frames() {
		if f.ICMP != nil && f.ICMP.Type == 134 {
			n++
		}
	}
	require.Equal(t, 6, n)
}

func TestForwardsBetweenBothVersionsOfIP(t *testing.T) {
	for _, c := range []struct{ name, host, guest, seen string }{
		{"IPv6 to IPv6", "[::1]", "[fd00:10:0:2::15]:", "fd00:10:0:2::2"},
		{"IPv6 to IPv4", "[::1]", "", "10.0.2.2"},
		{"IPv4 to IPv6", "127.0.0.1", "[fd00:10:0:2::15]:", "fd00:10:0:2::2"},
		{"everybody's IPv6", "[::]", "", "10.0.2.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := c.host + ":" + strconv.Itoa(int(porttest.FreePort(t).Port()))
			var forwards []spec.Forward
			for _, proto := range []string{"tcp:", "udp:"} {
				f, err := spec.ParseForward(proto + to + ":" + c.guest + "80")
				require.NoError(t, err)
				forwards = append(forwards, f)
			}
			b := newBench(t, setup{config: func(cfg *nat.Config) { cfg.Forwards = forwards }})
			l := b.Listen(80)
			client, err := net.Dial("tcp", to)
			require.NoError(t, err)
			defer client.Close()
			s := l.Accept() // the guest has sent nothing before: it is asked where it is
			require.Equal(t, c.seen, s.Remote.Addr().String())
			s.Send(noise(100_000))
			requireSame(t, noise(100_000), b.readSome(client, 100_000))

			datagrams, err := net.Dial("udp", to)
			require.NoError(t, err)
			defer datagrams.Close()
			_, err = datagrams.Write([]byte("question"))
			require.NoError(t, err)
			var got []*porttest.Datagram
			b.Until("the question", func() bool { got = append(got, b.Datagrams()...); return len(got) > 0 })
			require.Equal(t, c.seen, got[0].Src.Addr().String())
			b.SendDatagram(porttest.Datagram{Src: got[0].Dst, Dst: got[0].Src, Payload: []byte("answer")})
			require.Equal(t, "answer", string(b.readSome(datagrams, 6)))
		})
	}
}

func TestFlowsOfIPv6HopBetweenQueues(t *testing.T) {
	l, open := listen6(t)
	b, h := newQueues(t, 8, open, func(c *nat.Config) { c.EndpointIndependent = true })
	b.moveTo6(l)
	echoes(t, b, 6, 120_000, func() {})
	require.NotZero(t, h.moved(), "they did hop")

	host := b.listenUDP()
	h.hops = 0.5
	for round := range 30 {
		want := numbered(round, 200)
		for i := range uint16(10) {
			b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP6, 3000+i), Dst: b.server, Payload: want})
		}
		buf := make([]byte, 1000)
		for range 10 {
			n := await(b, "the host has a datagram", func() int {
				n, from, err := host.ReadFromUDPAddrPort(buf)
				if err != nil {
					return 0
				}
				_, _ = host.WriteToUDPAddrPort(buf[:n], from)
				return n
			})
			requireSame(t, want, buf[:n])
		}
		got := map[uint16]bool{}
		b.Until("all answers are there", func() bool {
			for _, d := range b.Datagrams() {
				requireSame(t, want, d.Payload)
				got[d.Dst.Port()] = true
			}
			return len(got) == 10
		})
	}
}

func TestOneMappingForAllOverIPv6(t *testing.T) {
	b := newUDPBench6(t, setup{config: func(c *nat.Config) { c.EndpointIndependent = true }})
	other, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	require.NoError(t, err)
	defer other.Close()
	b.SendDatagram(b.datagram6(0, 9))
	b.Settle()
	b.hostGets([][]byte{b.datagram6(0, 9).Payload})
	_, err = b.host.WriteToUDPAddrPort([]byte("back"), b.from)
	require.NoError(t, err)
	b.guestGets([][]byte{[]byte("back")})
	_, err = other.WriteToUDPAddrPort([]byte("a stranger's"), b.from)
	require.NoError(t, err)
	b.Settle()
	require.EqualValues(t, 1, b.port.Counters().Strangers)
}

func TestHostileIPv6IsDropped(t *testing.T) {
	h := newHostile(t, setup{})
	h.SendICMP(h.Gateway6, porttest.ICMP{Type: 128}) // the router is advertised at the first sight of IPv6
	datagram := porttest.Datagram{Src: netip.AddrPortFrom(h.IP6, 7), Dst: netip.AddrPortFrom(h.Gateway6, 7), Payload: noise(40)}
	frame := func(change func(ip []byte)) func() {
		return func() {
			f := h.IPv6(udp, h.IP6, h.Gateway6, []byte{0, 7, 0, 7, 0, 48, 0, 0}, datagram.Payload)
			change(f[14:])
			h.SendFrame(f)
		}
	}
	mapped := netip.MustParseAddr("::ffff:127.0.0.1").As16()
	for _, c := range []struct {
		name    string
		counter func(nat.Counters) uint64
		change  func(ip []byte)
	}{
		{"a length beyond the frame", malformed, func(ip []byte) { ip[4] = 0xff }},
		{"no length", malformed, func(ip []byte) { ip[4], ip[5] = 0, 0 }},
		{"another version", malformed, func(ip []byte) { ip[0] = 0x40 }},
		{"IPv4 in disguise as the destination", badAddress, func(ip []byte) { copy(ip[24:], mapped[:]) }},
		{"IPv4 in disguise as the source", badAddress, func(ip []byte) { copy(ip[8:], mapped[:]) }},
		{"from everybody", badAddress, func(ip []byte) { ip[8] = 0xff }},
		{"from nobody", badAddress, func(ip []byte) { clear(ip[8:24]) }},
		{"from the gateway", badAddress, func(ip []byte) { copy(ip[8:], h.Gateway6.AsSlice()) }},
		{"from the loopback", badAddress, func(ip []byte) { clear(ip[8:23]); ip[23] = 1 }},
		{"to everybody", multicast, func(ip []byte) { ip[24] = 0xff }},
		{"a fragment of no bytes", malformed, func(ip []byte) { ip[5], ip[6] = 8, 44; copy(ip[40:], []byte{udp, 0, 0, 1, 0, 0, 0, 1}) }},
		{"a fragment beyond the longest packet", malformed, func(ip []byte) { ip[6] = 44; copy(ip[40:], []byte{udp, 0, 0xff, 0xf8, 0, 0, 0, 1}) }},
		{"half a fragment's header", malformed, func(ip []byte) { ip[5], ip[6] = 7, 44 }},
		{"a redirect is nobody's", func(c nat.Counters) uint64 { return c.Malformed }, func(ip []byte) { ip[6], ip[7] = 58, 64; ip[40] = 137 }},
		{"a solicitation from afar", malformed, func(ip []byte) { ip[6], ip[7] = 58, 254; ip[40], ip[41] = 135, 0 }},
		{"a solicitation that is cut off", malformed, func(ip []byte) { ip[5], ip[6], ip[7] = 8, 58, 255; ip[40], ip[41] = 135, 0 }},
	} {
		t.Run(c.name, func(t *testing.T) { h.counted(1, c.counter, frame(c.change)) })
	}
	// S11: a length beyond the frame, in an echo request, must not be answered with what stands behind it.
	h.counted(1, malformed, func() {
		ping := h.IPv6(58, h.IP6, h.Gateway6, []byte{128, 0, 0, 0, 0, 0, 0, 0})
		ping[14+4] = 0xff
		h.SendFrame(ping)
	})
}

func TestWithoutIPv6ItsPacketsAreNotTaken(t *testing.T) {
	for name, s := range map[string]setup{
		"it is turned off":     {config: func(c *nat.Config) { _ = c.SetNetwork6(netip.Prefix{}) }},
		"the MTU is too small": {guest: porttest.Options{MTU: 1279}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, s)
			h.counted(1, unsupported, func() { h.SendICMP(h.Gateway6, porttest.ICMP{Type: 128}) })
		})
	}
}

// An internet of three in IPv6: the engine's host, a router with a narrow link behind it, and nobody there.
func TestErrorsOfRoutersReachTheGuestOverIPv6(t *testing.T) {
	if inNamespace(t) {
		return
	}
	near, far := neighbour(t, "2001:db8:1::1/64")
	router(t, far, "2001:db8:1::9/64", "2001:db8:2::254/64", 1280)
	dst, err := netlink.ParseIPNet("2001:db8:2::/64")
	require.NoError(t, err)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{
		LinkIndex: near.Attrs().Index, Dst: dst, Gw: net.ParseIP("2001:db8:1::9"),
	}))
	host := byte(0) // the kernel remembers what it has learned of one
	for _, c := range []struct {
		name       string
		edit       func(*porttest.Datagram)
		kind, code uint8
		rest       uint32
		from       string
	}{
		{"the hop limit ends there", func(d *porttest.Datagram) { d.TTL = 2 }, 3, 0, 0, "2001:db8:1::9"},
		{"its link is too narrow", func(*porttest.Datagram) {}, 2, 0, 1280, "2001:db8:1::9"},
		{"nobody listens there", func(d *porttest.Datagram) { d.Dst = at("[2001:db8:2::254]:9"); d.Payload = d.Payload[:500] }, 1, 4, 0, "2001:db8:2::254"},
		{"nobody has the address", func(d *porttest.Datagram) { d.Payload = d.Payload[:500] }, 1, 3, 0, "2001:db8:1::9"},
	} {
		for kind, start := range routerBenches {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				b := start(t)
				b.Frames()
				host++
				to := netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 2, 15: host}), 9)
				d := porttest.Datagram{Src: netip.AddrPortFrom(b.IP6, 1024), Dst: to, Payload: noise(1400)}
				c.edit(&d)
				b.SendDatagram(d)
				f := b.icmp6(c.kind)
				require.Equal(t, c.code, f.ICMP.Code)
				require.Equal(t, c.rest, f.ICMP.Rest)
				require.Equal(t, c.from, f.Src.String(), "who told")
				quoted := header.IPv6(f.ICMP.Payload)
				require.Equal(t, d.Dst.Addr().AsSlice(), quoted.DestinationAddressSlice())
				const known = 520 // of the payload, at most
				require.EqualValues(t, 8+min(len(d.Payload), known), quoted.PayloadLength())
				requireSame(t, d.Payload[:min(len(d.Payload), known)], f.ICMP.Payload[48:])
			})
		}
	}
	t.Run("in fragments it arrives, at a closed port", func(t *testing.T) {
		b := newUDPBench(t, setup{})
		d := porttest.Datagram{Src: netip.AddrPortFrom(b.IP6, 1024), Dst: at("[2001:db8:2::254]:9"), Payload: noise(4000)}
		for _, f := range d.Cut(1, 1448) {
			b.SendFragment(f)
		}
		require.EqualValues(t, 4, b.icmp6(1).ICMP.Code)
	})
}

// The host's own link is narrower than the guest's MTU.
func TestANarrowLinkOfTheHostIsToldInICMPv6(t *testing.T) {
	if inNamespace(t) {
		return
	}
	near, far := neighbour(t, "2001:db8:1::1/64")
	inhabit(t, far, "2001:db8:1::9/64")
	require.NoError(t, netlink.LinkSetMTU(near, 1280))
	for kind, start := range routerBenches {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			b.Frames()
			d := porttest.Datagram{Src: netip.AddrPortFrom(b.IP6, 1024), Dst: at("[2001:db8:1::9]:9"), Payload: noise(1400)}
			for range 3 { // a run, which the kernel does not cut either
				b.SendDatagram(d)
			}
			f := b.icmp6(2)
			require.EqualValues(t, 1280, f.ICMP.Rest)
			require.Equal(t, b.Gateway6, f.Src, "the host is the guest's router")

			d.Payload = d.Payload[:1232]
			b.SendDatagram(d)
			require.EqualValues(t, 4, b.icmp6(1).ICMP.Code, "what fits arrives, at a closed port")
		})
	}
}

func TestTheGuestPingsWhoeverIsOutsideOverIPv6(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	_, far := neighbour(t, "2001:db8:1::1/64")
	inhabit(t, far, "2001:db8:1::9/64")
	route(t, unix.RTN_PROHIBIT, "2001:db8:3::/64")
	b := newBench(t, setup{})
	b.Resolve()
	ping := func(to string, seq int, payload []byte) {
		b.SendICMP(netip.MustParseAddr(to), porttest.ICMP{Type: 128, Rest: 0xabcd0000 | uint32(seq), Payload: payload})
	}
	for seq, size := range []int{0, 1, 56, 57, 1452} {
		ping("2001:db8:1::9", seq, noise(size))
		f := b.icmp6(129) // porttest has checked its checksum
		require.Equal(t, "2001:db8:1::9", f.Src.String())
		require.EqualValues(t, 0xabcd0000|seq, f.ICMP.Rest)
		requireSame(t, noise(size), f.ICMP.Payload)
	}
	require.Equal(t, 1, b.Sockets(), "one socket for all of a series")
	for to, code := range map[string]uint8{
		"2001:db8:1::1": 1, // the host's own address is closed
		"2001:db8:4::1": 0, // no route
		"2001:db8:3::1": 1, // a prohibited one
	} {
		ping(to, 1, nil)
		f := b.icmp6(1)
		require.Equal(t, code, f.ICMP.Code, to)
		require.Equal(t, netip.MustParseAddr(to).AsSlice(), header.IPv6(f.ICMP.Payload).DestinationAddressSlice())
	}
}

func TestErrorsOfTheHostsConnectAreTheGuestsTooOverIPv6(t *testing.T) {
	if inNamespace(t) {
		return
	}
	neighbour(t, "2001:db8:1::1/64")
	sysctl(t, "net.ipv6.neigh.near.retrans_time_ms", "50")
	route(t, unix.RTN_PROHIBIT, "2001:db8:3::/64")
	for name, c := range map[string]struct {
		to   string
		code uint8
	}{
		"no route":               {"[2001:db8:4::1]:80", 0},
		"a prohibited route":     {"[2001:db8:3::1]:80", 1},
		"nobody has the address": {"[2001:db8:1::9]:80", 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			b.Resolve()
			c6 := b.Dial(at(c.to))
			f := b.icmp6(1)
			require.Equal(t, c.code, f.ICMP.Code)
			require.Equal(t, b.Gateway6, f.Src)
			require.Empty(t, c6.Segments, "no reset")
			require.Zero(t, b.Sockets())
			require.Len(t, f.ICMP.Payload, 48)
			require.EqualValues(t, c6.Local.Port(), binary.BigEndian.Uint16(f.ICMP.Payload[40:]))
			require.EqualValues(t, c6.ISS, binary.BigEndian.Uint32(f.ICMP.Payload[44:]))
		})
	}
	t.Run("the host's own address is closed", func(t *testing.T) {
		b := newBench(t, setup{})
		b.Resolve()
		c := b.Dial(at("[2001:db8:1::1]:80"))
		b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	})
}
