package nat_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// udpBench is a bench with a socket of the host for the guest's datagrams.
type udpBench struct {
	*bench
	host *net.UDPConn
	from netip.AddrPort // who sent what the host received last
}

func newUDPBench(t *testing.T, s setup) *udpBench {
	t.Helper()
	b := newBench(t, s)
	b.Resolve()
	return &udpBench{bench: b, host: b.listenUDP()}
}

// listenUDP opens the host's port for datagrams, on the loopback address of the server's version of IP.
func (b *bench) listenUDP() *net.UDPConn {
	b.t.Helper()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if b.server.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	host, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, b.server.Port())))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = host.Close() })
	require.NoError(b.t, host.SetReadBuffer(1<<20))
	return host
}

// datagram returns one of the guest's to the host's socket, with a number in front that tells loss and reordering.
func (b *udpBench) datagram(number, n int) porttest.Datagram {
	return porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: b.server, Payload: numbered(number, n)}
}

// numbered returns n bytes, of which the first two are number.
func numbered(number, n int) []byte {
	payload := noise(n)
	if n >= 2 {
		binary.BigEndian.PutUint16(payload, uint16(number))
	}
	return payload
}

// hostGets checks that the host's socket has got exactly these payloads in this order.
func (b *udpBench) hostGets(want [][]byte) {
	b.t.Helper()
	buf := make([]byte, 65536)
	for i, w := range want {
		require.NoError(b.t, b.host.SetReadDeadline(time.Now().Add(time.Minute)))
		n, from, err := b.host.ReadFromUDPAddrPort(buf)
		require.NoError(b.t, err, "datagram %d", i)
		require.Len(b.t, buf[:n], len(w), "datagram %d", i)
		requireSame(b.t, w, buf[:n])
		b.from = from
	}
	require.NoError(b.t, b.host.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, _, err := b.host.ReadFromUDPAddrPort(buf)
	require.Error(b.t, err, "one more datagram")
}

// hello lets the guest send a first datagram, so that the host can answer.
func (b *udpBench) hello() {
	b.t.Helper()
	d := b.datagram(0, 9)
	b.SendDatagram(d)
	b.Settle()
	b.hostGets([][]byte{d.Payload})
}

// guestGets checks that the guest gets exactly these payloads in this order.
func (b *udpBench) guestGets(want [][]byte) {
	b.t.Helper()
	var got []*porttest.Datagram
	b.Until("the guest has all datagrams", func() bool {
		got = append(got, b.Datagrams()...)
		return len(got) >= len(want)
	})
	b.Settle()
	require.Empty(b.t, b.Datagrams())
	for i, w := range want {
		require.Len(b.t, got[i].Payload, len(w), "datagram %d", i)
		requireSame(b.t, w, got[i].Payload)
	}
}

// abilities are those of kernels with and without segmentation offload for UDP.
func abilities(t *testing.T, f func(t *testing.T, s setup)) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprintf("offload %v", on), func(t *testing.T) {
			f(t, setup{config: func(c *nat.Config) {
				c.UDPSegment, c.UDPGRO = c.UDPSegment && on, c.UDPGRO && on
			}})
		})
	}
}

func TestDatagramsOfOneTurnLeaveByFewCalls(t *testing.T) {
	abilities(t, func(t *testing.T, s setup) {
		b := newUDPBench(t, s)
		const n = 60
		var want [][]byte
		for i := range n {
			d := b.datagram(i, 1000)
			b.SendDatagram(d)
			want = append(want, d.Payload)
		}
		b.Turn()
		b.hostGets(want)
		sends := uint64(2) // of 32 each
		if b.port.Offers()&vnet.FeatureHostUSO != 0 {
			sends = 1
		}
		require.Equal(t, sends, b.port.Counters().UDPSends)
		require.EqualValues(t, n, b.port.Counters().UDPSent)
		require.EqualValues(t, n*1000, b.port.Snapshot(b.Now()).Flows[0].FromGuest)
	})
}

func TestDatagramsOfEveryLengthKeepTheirBordersAndOrder(t *testing.T) {
	abilities(t, func(t *testing.T, s setup) {
		b := newUDPBench(t, s)
		lengths := []int{1000, 1000, 500, 1000, 0, 0, 1472, 1472, 1, 1, 1, 2, 1, 1472, 0, 7, 7, 8, 7}
		var want [][]byte
		for i, n := range lengths {
			d := b.datagram(i, n)
			b.SendDatagram(d)
			want = append(want, d.Payload)
		}
		b.Turn()
		b.hostGets(want)
		require.Zero(t, b.port.Counters().UDPRefused)
	})
}

func TestInterleavedFlowsAreSentTogetherEach(t *testing.T) {
	b := newUDPBench(t, setup{})
	const flows, each = 3, 20
	got := map[netip.AddrPort][]uint16{}
	for i := range flows * each {
		d := b.datagram(i, 100)
		d.Src = netip.AddrPortFrom(d.Src.Addr(), uint16(2000+i%flows))
		b.SendDatagram(d)
	}
	b.Turn()
	require.EqualValues(t, flows, b.port.Counters().UDPSends)
	buf := make([]byte, 1000)
	require.NoError(t, b.host.SetReadDeadline(time.Now().Add(time.Minute)))
	for range flows * each {
		_, from, err := b.host.ReadFromUDPAddrPort(buf)
		require.NoError(t, err)
		got[from] = append(got[from], binary.BigEndian.Uint16(buf))
	}
	require.Len(t, got, flows)
	for _, numbers := range got {
		require.IsIncreasing(t, numbers)
		require.Len(t, numbers, each)
	}
}

func TestAFrameOfManyDatagramsIsCutByTheKernel(t *testing.T) {
	b := newUDPBench(t, setup{})
	if b.port.Offers()&vnet.FeatureHostUSO == 0 {
		t.Skip("this kernel has no UDP_SEGMENT")
	}
	for _, c := range []struct{ n, segment int }{{60_000, 1472}, {65_507, 400}, {3000, 1000}, {1000, 1472}, {20_000, 100}} {
		d := b.datagram(0, c.n)
		d.GSOSize = uint16(c.segment)
		b.SendDatagram(d)
		b.Turn()
		var want [][]byte
		for at := 0; at < c.n; at += c.segment {
			want = append(want, d.Payload[at:min(at+c.segment, c.n)])
		}
		b.hostGets(want)
	}
	require.Zero(t, b.port.Counters().UDPRefused)

	d := b.datagram(0, 5000)
	d.GSOSize = 1
	b.SendDatagram(d)
	b.Turn()
	b.hostGets(nil)
	require.EqualValues(t, 1, b.port.Counters().Malformed, "nobody sends thousands in a frame")
}

func TestDatagramsForTheGuestAreReceivedInBatches(t *testing.T) {
	for name, options := range map[string]porttest.Options{
		"buffers that are merged":     {Features: plain | vnet.FeatureMrgRxBuf},
		"merged buffers of 600 bytes": {Features: plain | vnet.FeatureMrgRxBuf, BufSize: 600},
		"one buffer for each frame":   {Features: plain},
		"a guest that wants checksums": {
			Features: vnet.FeatureVersion1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench(t, setup{guest: options})
			b.hello()
			receives := func() uint64 {
				var want [][]byte
				for i := range 50 {
					want = append(want, numbered(i, 20+i*29))
					_, err := b.host.WriteToUDPAddrPort(want[i], b.from)
					require.NoError(t, err)
				}
				before := b.port.Counters().UDPReceives
				b.guestGets(want)
				return b.port.Counters().UDPReceives - before
			}
			fewest := receives()
			for tries := 0; tries < 100 && fewest > 5; tries++ { // a busy kernel may hand them on one by one
				fewest = min(fewest, receives())
			}
			if options.BufSize == 0 {
				require.LessOrEqual(t, fewest, uint64(5))
			}
		})
	}
}

const plain = vnet.FeatureVersion1 | vnet.FeatureCSum | vnet.FeatureGuestCSum

// A datagram that is longer than the buffer that it was received into takes others, and those behind it move on.
func TestLongDatagramsAmongOthersKeepTheirPlace(t *testing.T) {
	for name, options := range map[string]porttest.Options{
		"at MTU 1500": {Features: plain | vnet.FeatureMrgRxBuf, RingSize: 1024},
		"at MTU 9000": {Features: plain | vnet.FeatureMrgRxBuf, RingSize: 1024, MTU: 9000, BufSize: 1538},
	} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench(t, setup{guest: options})
			b.hello()
			for range 3 {
				var want [][]byte
				for i, n := range []int{100, 200, 1472, 4000, 300, 65_507, 5, 20_000, 1500, 1473, 0, 1} {
					want = append(want, numbered(i, n))
					_, err := b.host.WriteToUDPAddrPort(want[i], b.from)
					require.NoError(t, err)
				}
				b.guestGets(want)
			}
			require.Zero(t, b.port.Counters().NoRoom)
		})
	}
}

// The kernel puts datagrams together only for a guest that takes them so.
func TestDatagramsArePutTogetherForAGuestThatTakesThemSo(t *testing.T) {
	for _, takes := range []bool{true, false} {
		t.Run(fmt.Sprintf("takes them %v", takes), func(t *testing.T) {
			features := uint64(plain | vnet.FeatureMrgRxBuf)
			if takes {
				features |= vnet.FeatureGuestUSO4
			}
			b := newUDPBench(t, setup{guest: porttest.Options{Features: features}})
			if b.port.Offers()&vnet.FeatureGuestUSO4 == 0 {
				t.Skip("this kernel has no UDP_GRO")
			}
			b.hello()
			b.Frames()
			want := b.sendTogether(20, 1200)
			b.guestGets(want)
			frames := 20
			if takes {
				frames = 1
			}
			require.Len(t, b.Frames(), frames)
		})
	}
}

// sendTogether lets the host send n datagrams by one call that the kernel cuts, and returns their payloads.
func (b *udpBench) sendTogether(n, size int) (payloads [][]byte) {
	b.t.Helper()
	all := noise(n * size)
	raw, err := b.host.SyscallConn()
	require.NoError(b.t, err)
	require.NoError(b.t, raw.Control(func(fd uintptr) {
		require.NoError(b.t, unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size))
	}))
	_, err = b.host.WriteToUDPAddrPort(all, b.from)
	require.NoError(b.t, err)
	require.NoError(b.t, raw.Control(func(fd uintptr) {
		require.NoError(b.t, unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0))
	}))
	for at := 0; at < len(all); at += size {
		payloads = append(payloads, all[at:at+size])
	}
	return payloads
}

// Datagrams that the kernel has put together are longer than the guest's MTU, and its ring is small: all of them arrive.
func TestDatagramsPutTogetherThatTheGuestCannotTakeSo(t *testing.T) {
	for _, size := range []int{700, 1472, 3000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b := newUDPBench(t, setup{guest: porttest.Options{
				Features: plain | vnet.FeatureGuestUSO4 | vnet.FeatureMrgRxBuf, RingSize: 16,
			}})
			if b.port.Offers()&vnet.FeatureGuestUSO4 == 0 {
				t.Skip("this kernel has no UDP_GRO")
			}
			b.hello()
			for range 3 {
				b.guestGets(b.sendTogether(20, size))
			}
			require.Zero(t, b.port.Counters().NoRoom)
		})
	}
}

func TestTheTimeToLiveEndsAtTheEngineIfItIsOne(t *testing.T) {
	b := newUDPBench(t, setup{})
	b.Frames()
	d := porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at("192.0.2.7:33434"), Payload: noise(40), TTL: 1}
	b.SendDatagram(d)
	b.Settle()
	f := b.Frames()
	require.Len(t, f, 1)
	require.EqualValues(t, header.ICMPv4TimeExceeded, f[0].ICMP.Type)
	require.Equal(t, b.Gateway, f[0].Src)
	requireQuoted(t, &d, f[0].ICMP.Payload)
	require.EqualValues(t, 1, b.port.Counters().HopsExceeded)

	near := b.datagram(1, 10)
	near.TTL = 1
	b.SendDatagram(near)
	b.Settle()
	b.hostGets([][]byte{near.Payload}) // the gateway itself is reached
}

// requireQuoted checks that a quote leads the guest's kernel to the socket that sent d.
func requireQuoted(t *testing.T, d *porttest.Datagram, quote []byte) {
	t.Helper()
	ip := header.IPv4(quote)
	require.EqualValues(t, 20, ip.HeaderLength())
	require.True(t, ip.IsChecksumValid())
	require.EqualValues(t, header.UDPProtocolNumber, ip.Protocol())
	require.Equal(t, d.Src.Addr(), netip.AddrFrom4([4]byte(ip.SourceAddressSlice())))
	require.Equal(t, d.Dst.Addr(), netip.AddrFrom4([4]byte(ip.DestinationAddressSlice())))
	u := header.UDP(quote[20:])
	require.Equal(t, d.Src.Port(), u.SourcePort())
	require.Equal(t, d.Dst.Port(), u.DestinationPort())
	require.Equal(t, d.Payload[:len(quote)-28], quote[28:])
}

// errorsOf returns the frames with ICMP errors that the guest has got since.
func (b *udpBench) errorsOf(n int) (list []*porttest.Frame) {
	b.t.Helper()
	b.Until("the guest is told", func() bool {
		for _, f := range b.Frames() {
			if f.ICMP != nil {
				list = append(list, f)
			}
		}
		return len(list) >= n
	})
	return list
}

func TestAClosedPortIsToldForEachDatagram(t *testing.T) {
	b := newUDPBench(t, setup{})
	require.NoError(t, b.host.Close())
	b.Frames()
	for i := range 5 {
		d := b.datagram(i, 100)
		b.SendDatagram(d)
		b.Turn()
		f := b.errorsOf(1)
		require.EqualValues(t, header.ICMPv4DstUnreachable, f[0].ICMP.Type)
		require.EqualValues(t, header.ICMPv4PortUnreachable, f[0].ICMP.Code)
		require.Equal(t, b.Gateway, f[0].Src, "where it went to, as the guest named it")
		requireQuoted(t, &d, f[0].ICMP.Payload)
	}
	require.Zero(t, b.port.Counters().UDPRefused)
}

// An internet of three: the engine's host, a router with a narrow link behind it, and nobody there.
func TestErrorsOfRoutersReachTheGuest(t *testing.T) {
	if inNamespace(t) {
		return
	}
	near, far := neighbour(t, "192.0.2.1/24")
	router(t, far, "192.0.2.9/24", "198.51.100.254/24", 1000)
	dst, err := netlink.ParseIPNet("198.51.100.0/24")
	require.NoError(t, err)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{
		LinkIndex: near.Attrs().Index, Dst: dst, Gw: net.IPv4(192, 0, 2, 9),
	}))

	host := byte(0) // the kernel remembers what it has learned of one
	for name, c := range map[string]struct {
		edit       func(*porttest.Datagram)
		kind, code uint8
		rest       uint32
		from       string
	}{
		"the time to live ends there": {
			func(d *porttest.Datagram) { d.TTL = 2 }, 11, 0, 0, "192.0.2.9",
		},
		"its link is too narrow": {
			func(d *porttest.Datagram) { d.DontFragment = true }, 3, 4, 1000, "192.0.2.9",
		},
		"nobody listens there": {
			func(d *porttest.Datagram) { d.Dst = at("198.51.100.254:9"); d.Payload = d.Payload[:500] }, 3, 3, 0, "198.51.100.254",
		},
		"nobody has the address": {
			func(d *porttest.Datagram) { d.Payload = d.Payload[:500] }, 3, 1, 0, "192.0.2.9",
		},
	} {
		for kind, start := range routerBenches {
			t.Run(name+", "+kind, func(t *testing.T) {
				b := start(t)
				b.Frames()
				host++
				dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, host}), 9)
				d := porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: dst, Payload: noise(1400)}
				c.edit(&d)
				b.SendDatagram(d)
				f := b.errorsOf(1)[0]
				require.Equal(t, c.kind, f.ICMP.Type)
				require.Equal(t, c.code, f.ICMP.Code)
				require.Equal(t, c.rest, f.ICMP.Rest)
				require.Equal(t, c.from, f.Src.String(), "who told")
				requireQuoted(t, &d, f.ICMP.Payload)
			})
		}
	}
}

const socketForEach = "a socket for each association"

var routerBenches = map[string]func(*testing.T) *udpBench{
	socketForEach: func(t *testing.T) *udpBench { return newUDPBench(t, setup{}) },
	"one for each port of the guest": func(t *testing.T) *udpBench {
		return newUDPBench(t, setup{config: func(c *nat.Config) { c.EndpointIndependent = true }})
	},
	"one for each port of the guest, on two queues": func(t *testing.T) *udpBench {
		b, _ := newQueues(t, 2, func(c *nat.Config) { c.EndpointIndependent = true })
		return &udpBench{bench: b}
	},
}

// router makes of the far end of a link a router, with the addresses near on that link and end on one of a smaller MTU, where
// nobody else is.
func router(t *testing.T, link netlink.Link, near, end string, mtu int) {
	t.Helper()
	thread, moved, ready, over := make(chan int), make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine, and the namespace with the thread
		require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
		thread <- unix.Gettid()
		<-moved
		address(t, up(t, link.Attrs().Name), near)
		require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "narrow"}, PeerName: "end"}))
		narrow := up(t, "narrow")
		require.NoError(t, netlink.LinkSetMTU(narrow, mtu))
		address(t, narrow, end)
		up(t, "end")
		sysctl(t, "net.ipv4.ip_forward", "1")
		sysctl(t, "net.ipv4.neigh.narrow.retrans_time_ms", "50")
		sysctl(t, "net.ipv4.icmp_ratelimit", "0")
		sysctl(t, "net.ipv6.conf.all.forwarding", "1")
		sysctl(t, "net.ipv6.icmp.ratelimit", "0")
		if mtu >= 1280 { // else there is no IPv6 on that link
			sysctl(t, "net.ipv6.neigh.narrow.retrans_time_ms", "50")
		}
		close(ready)
		<-over
	}()
	require.NoError(t, netlink.LinkSetNsPid(link, <-thread))
	close(moved)
	<-ready
	t.Cleanup(func() { close(over) })
}

// The host's own link is narrower than the guest's MTU.
func TestANarrowLinkOfTheHostIsToldIfTheGuestWantsNoFragments(t *testing.T) {
	if inNamespace(t) {
		return
	}
	near, far := neighbour(t, "192.0.2.1/24")
	inhabit(t, far, "192.0.2.9/24")
	require.NoError(t, netlink.LinkSetMTU(near, 1000))
	for kind, start := range routerBenches {
		t.Run(kind, func(t *testing.T) {
			b := start(t)
			b.Frames()
			d := porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at("192.0.2.9:9"), Payload: noise(1400), DontFragment: true}
			for range 3 { // a run, which the kernel does not cut either
				b.SendDatagram(d)
			}
			f := b.errorsOf(3)
			require.EqualValues(t, 3, f[0].ICMP.Type)
			require.EqualValues(t, 4, f[0].ICMP.Code)
			require.EqualValues(t, 1000, f[0].ICMP.Rest)
			require.Equal(t, b.Gateway, f[0].Src, "the host is the guest's router")
			requireQuoted(t, &d, f[0].ICMP.Payload)
			if kind == socketForEach {
				require.EqualValues(t, 3, b.port.Counters().UDPRefused)
			}

			d.DontFragment, d.Dst = false, at("192.0.2.9:10")
			b.SendDatagram(d)
			require.EqualValues(t, 3, b.errorsOf(1)[0].ICMP.Code, "in fragments it arrives, at a closed port")
		})
	}
}

func TestAForwardsPeerThatIsGoneIsTold(t *testing.T) {
	host := porttest.FreePort(t)
	b := newUDPBench(t, setup{config: withForward(t, "udp:"+host.String()+":53")})
	client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(host))
	require.NoError(t, err)
	_, err = client.Write([]byte("question"))
	require.NoError(t, err)
	var got []*porttest.Datagram
	b.Until("the guest has it", func() bool { got = b.Datagrams(); return len(got) == 1 })
	require.NoError(t, client.Close())
	b.Frames()
	d := porttest.Datagram{Src: got[0].Dst, Dst: got[0].Src, Payload: []byte("answer")}
	b.SendDatagram(d)
	f := b.errorsOf(1)[0]
	require.EqualValues(t, 3, f.ICMP.Code)
	require.Equal(t, b.Gateway, f.Src)
	requireQuoted(t, &d, f.ICMP.Payload)
}
