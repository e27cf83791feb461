package nat_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	reflect "github.com/vringnet/vring/netbackend/nat/internal/multicast"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// lan is a network of the host, by the interface near, and a device in it.
type lan struct {
	*bench
	device *elsewhere
	near   netlink.Link
}

const (
	deviceAddr = "192.0.2.2"
	mdns4      = "224.0.0.251:5353"
	mdns6      = "[ff02::fb]:5353"
	ssdp4      = "239.255.255.250:1900"
	ssdp6      = "[ff02::c]:1900"
)

// newLAN makes a guest that finds services in a network, in the namespace of the test.
func newLAN(t *testing.T, config func(*nat.Config)) *lan {
	t.Helper()
	sysctl(t, "net.ipv6.conf.default.accept_dad", "0")
	l := &lan{device: newElsewhere(t)}
	l.device.do(func() { sysctl(t, "net.ipv6.conf.default.accept_dad", "0") })
	l.plug()
	l.bench = newBench(t, setup{config: func(c *nat.Config) {
		c.Multicast = []string{"near"}
		if config != nil {
			config(c)
		}
	}})
	l.Resolve()
	return l
}

// plug makes the network.
func (l *lan) plug() {
	l.near = l.device.link("near", []string{"192.0.2.1/24", "fe80::1/64"}, []string{deviceAddr + "/24", "fe80::2/64"})
	l.device.do(func() { up(l.device.t, "lo") })
}

// socket opens a socket of the device, on an address; for one of a group it joins that.
func (l *lan) socket(addr string) *net.UDPConn {
	t := l.device.t
	t.Helper()
	var conn *net.UDPConn
	l.device.do(func() {
		link, err := net.InterfaceByIndex(l.peerIndex())
		require.NoError(t, err)
		to := net.UDPAddrFromAddrPort(at(addr))
		if to.IP.IsMulticast() {
			network := "udp4"
			if at(addr).Addr().Is6() {
				network = "udp6"
			}
			conn, err = net.ListenMulticastUDP(network, link, to)
		} else {
			if to.IP.IsLinkLocalUnicast() {
				to.Zone = link.Name
			}
			shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
				_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
				return err
			}}
			var c net.PacketConn
			if c, err = shared.ListenPacket(context.Background(), "udp", to.String()); err == nil {
				conn = c.(*net.UDPConn)
				option(conn, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 255)
				option(conn, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
				option(conn, unix.IPPROTO_IP, unix.IP_TTL, 255)
				option(conn, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255)
			}
		}
		require.NoError(t, err)
		option(conn, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
		option(conn, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// peerIndex is the index of the device's interface, in its namespace.
func (l *lan) peerIndex() int {
	link, err := netlink.LinkByName("near-far")
	require.NoError(l.device.t, err)
	return link.Attrs().Index
}

// option sets an option of a socket, of the version of IP that has it.
func option(conn *net.UDPConn, level, name, value int) {
	raw, _ := conn.SyscallConn()
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), level, name, value) })
}

// overheard is what a device hears.
type overheard struct {
	from    netip.AddrPort
	hops    int
	payload []byte
}

// hear returns what came at a socket, which there is now.
func (l *lan) hear(conn *net.UDPConn) (h overheard) {
	l.device.t.Helper()
	l.Until("the network hears the guest", func() bool {
		buf, control := make([]byte, 2048), make([]byte, 256)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		n, nc, _, from, err := conn.ReadMsgUDPAddrPort(buf, control)
		if err != nil {
			return false
		}
		messages, err := syscall.ParseSocketControlMessage(control[:nc])
		require.NoError(l.device.t, err)
		require.Len(l.device.t, messages, 1)
		h = overheard{from, int(binary.NativeEndian.Uint32(messages[0].Data)), buf[:n]}
		return true
	})
	return h
}

// hearsNothing requires that nothing has come at a socket.
func (l *lan) hearsNothing(conn *net.UDPConn) {
	l.device.t.Helper()
	l.Settle()
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	n, from, err := conn.ReadFromUDPAddrPort(make([]byte, 2048))
	require.Error(l.device.t, err, "%d bytes from %v", n, from)
}

// say sends from a socket of the device.
func (l *lan) say(conn *net.UDPConn, to string, payload []byte) {
	l.device.t.Helper()
	l.device.do(func() {
		dst := net.UDPAddrFromAddrPort(at(to))
		if dst.IP.To4() == nil && (dst.IP.IsLinkLocalMulticast() || dst.IP.IsLinkLocalUnicast()) {
			dst.Zone = "near-far"
		}
		if dst.IP.To4() != nil && dst.IP.IsMulticast() {
			raw, _ := conn.SyscallConn()
			_ = raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(l.peerIndex())})
			})
		}
		_, err := conn.WriteToUDP(payload, dst)
		require.NoError(l.device.t, err)
	})
}

// got returns the next datagram that the guest got, and its frame.
func (l *lan) got() (f *porttest.Frame) {
	l.device.t.Helper()
	l.Until("the guest gets a datagram", func() bool {
		for _, g := range l.Frames() {
			if g.UDP != nil {
				f = g
			}
		}
		return f != nil
	})
	return f
}

// asks sends from a port of the guest to a group.
func (l *lan) asks(port uint16, to string, payload []byte) {
	dst := at(to)
	l.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(l.Source(dst.Addr()), port), Dst: dst, Payload: payload, TTL: 255})
	l.Settle()
}

// counted requires that f changes counters by n, and that the guest gets nothing.
func (l *lan) counted(n uint64, counter func(nat.Counters) uint64, f func()) {
	l.device.t.Helper()
	l.Settle()
	l.Frames()
	before := counter(l.port.Counters())
	f()
	l.Until("it is counted", func() bool { return counter(l.port.Counters()) >= before+n })
	l.Settle()
	require.Equal(l.device.t, before+n, counter(l.port.Counters()))
	for _, g := range l.Frames() {
		require.Nil(l.device.t, g.UDP, "the guest gets nothing")
	}
}

// Messages of DNS, of which the names are "a.local".
var dnsName = []byte("\x01a\x05local\x00")

func dnsHeader(flags, questions, answers, names, more byte) []byte {
	return []byte{0, 7, flags, 0, 0, questions, 0, answers, 0, names, 0, more}
}

// dnsQuestion is one for an address, with the wish for an answer by unicast.
func dnsQuestion() []byte { return slices.Concat(dnsName, []byte{0, 1, 0x80, 1}) }

// dnsRecord is one that a device answers with.
func dnsRecord(kind byte, data ...byte) []byte {
	return slices.Concat(dnsName, []byte{0, kind, 0x80, 1, 0, 0, 0, 120, 0, byte(len(data))}, data)
}

func dnsResponse() []byte {
	return slices.Concat(dnsHeader(0x84, 0, 1, 0, 0), dnsRecord(1, 192, 0, 2, 2))
}

const (
	search = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n"
	notify = "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nNTS: ssdp:alive\r\nLOCATION: http://192.0.2.2/\r\n\r\n"
	found  = "HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: http://192.0.2.2/\r\n\r\n"
)

func TestAGuestResolvesNamesOfTheNamedNetwork(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	for to, c := range map[string]struct{ device, source, router, mac string }{
		mdns4: {deviceAddr + ":5353", "192.0.2.1", "10.0.2.2", "01:00:5e:00:00:fb"},
		mdns6: {"[fe80::2]:5353", "fe80::1", "fe80::5055:aff:fe00:202", "33:33:00:00:00:fb"},
	} {
		group := l.socket(to)
		l.asks(5353, to, slices.Concat(dnsHeader(2, 1, 1, 0, 1), dnsQuestion(), dnsRecord(1, 10, 0, 2, 15), dnsRecord(41)))
		h := l.hear(group)
		require.Equal(t, "5353", fmt.Sprint(h.from.Port()), "it is no question of a simple resolver")
		require.True(t, l.isHost(h.from.Addr()), "%v", h.from)
		require.Equal(t, 255, h.hops)
		plain := dnsQuestion()
		plain[len(plain)-2] = 0
		require.Equal(t, slices.Concat(dnsHeader(0, 1, 0, 0, 0), plain), h.payload,
			"the question leaves, not what the guest knows, nor the wish for an answer by unicast")

		answer := slices.Concat(dnsHeader(0x84, 0, 2, 0, 1), dnsRecord(1, 192, 0, 2, 2),
			dnsRecord(28, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2), dnsRecord(28, make([]byte, 16)...))
		device := l.socket(c.device)
		l.say(device, to, answer)
		f := l.got()
		require.Equal(t, at(to), f.UDP.Dst)
		require.Equal(t, netip.AddrPortFrom(netip.MustParseAddr(c.router), 5353), f.UDP.Src, "from the guest's own link")
		require.Equal(t, c.mac, net.HardwareAddr(f.Bytes[:6]).String())
		require.EqualValues(t, 255, hopsOf(f))
		hidden := slices.Concat(answer)
		copy(hidden[12+len(dnsRecord(1, 1, 2, 3, 4))+len(dnsName):], []byte{0xff, 0})
		require.Equal(t, hidden, f.UDP.Payload, "an address of another link is hidden")
		require.NoError(t, group.Close())
		require.NoError(t, device.Close())
	}
	c := l.port.Counters()
	require.EqualValues(t, 2, c.MulticastSent)
	require.EqualValues(t, 2, c.MulticastReceived)
	require.Zero(t, c.Multicast)
	require.Empty(t, l.Notices())
}

// isHost reports whether an address is the host's in the network.
func (l *lan) isHost(a netip.Addr) bool {
	addrs, err := netlink.AddrList(l.near, netlink.FAMILY_ALL)
	require.NoError(l.device.t, err)
	return slices.ContainsFunc(addrs, func(own netlink.Addr) bool { return own.IP.String() == a.WithZone("").String() })
}

// hopsOf is the time to live of a frame's packet.
func hopsOf(f *porttest.Frame) byte {
	if f.Bytes[14]>>4 == 4 {
		return f.Bytes[22]
	}
	return f.Bytes[21]
}

func TestAnAnswerByUnicastReachesThePortThatAsked(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	query := slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion())
	for _, c := range []struct {
		to, device, source string
		question, answer   []byte
		hops               int
	}{
		{mdns4, deviceAddr + ":5353", "10.0.2.2:5353", query, dnsResponse(), 255},
		{mdns6, "[fe80::2]:5353", "[fe80::5055:aff:fe00:202]:5353", query, dnsResponse(), 255},
		{ssdp4, deviceAddr + ":1900", deviceAddr + ":1900", []byte(search), []byte(found), 2},
		{ssdp4, deviceAddr + ":49152", deviceAddr + ":49152", []byte(search), []byte(found), 2},
		{ssdp6, "[fe80::2]:1900", "[fe80::5055:aff:fe00:202]:1900", []byte(search), []byte(found), 2},
	} {
		t.Run(c.to+" by "+c.device, func(t *testing.T) {
			group := l.socket(c.to)
			l.asks(40000, c.to, c.question)
			h := l.hear(group)
			require.NotEqual(t, at(c.to).Port(), h.from.Port())
			require.Equal(t, c.hops, h.hops)
			device := l.socket(c.device)
			l.say(device, netip.AddrPortFrom(h.from.Addr().WithZone(""), h.from.Port()).String(), c.answer)
			f := l.got()
			require.Equal(t, at(c.source), f.UDP.Src)
			require.Equal(t, netip.AddrPortFrom(l.Source(at(c.to).Addr()), 40000), f.UDP.Dst)
			require.Equal(t, c.answer, f.UDP.Payload)
			require.NoError(t, group.Close())
			require.NoError(t, device.Close())
		})
	}
}

func TestAnnouncementsOfTheNetworkReachTheGuest(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	for to, device := range map[string]string{ssdp4: deviceAddr + ":1900", ssdp6: "[fe80::2]:1900"} {
		l.say(l.socket(device), to, []byte(notify))
		f := l.got()
		require.Equal(t, at(to), f.UDP.Dst)
		require.Equal(t, []byte(notify), f.UDP.Payload)
	}
	l.say(l.socket(deviceAddr+":5353"), mdns4, dnsResponse())
	require.Equal(t, dnsResponse(), l.got().UDP.Payload)
}

// What a guest announces names addresses that nobody in the network can reach, and a claim of a name would take it from somebody.
func TestAGuestNeitherAnnouncesItselfNorClaimsNames(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	group4, group6, ssdp := l.socket(mdns4), l.socket(mdns6), l.socket(ssdp4)
	l.counted(10, func(c nat.Counters) uint64 { return c.MulticastKept }, func() {
		for _, to := range []string{mdns4, mdns6} {
			l.asks(5353, to, dnsResponse())
			l.asks(5353, to, slices.Concat(dnsHeader(0x84, 1, 1, 0, 0), dnsQuestion(), dnsRecord(1, 10, 0, 2, 15)))
			l.asks(5353, to, slices.Concat(dnsHeader(0, 1, 0, 1, 0), dnsQuestion(), dnsRecord(1, 10, 0, 2, 15)))
			l.asks(5353, to, slices.Concat(dnsHeader(0, 0, 1, 0, 0), dnsRecord(1, 10, 0, 2, 15)))
		}
		l.asks(1900, ssdp4, []byte(notify))
		l.asks(1900, ssdp4, []byte(found))
	})
	l.counted(3, func(c nat.Counters) uint64 { return c.Malformed }, func() {
		l.asks(5353, mdns4, []byte("short"))
		l.asks(5353, mdns4, slices.Concat(dnsHeader(0, 2, 0, 0, 0), dnsQuestion()))
		l.asks(5353, mdns4, slices.Concat(dnsHeader(0, 1, 0, 0, 0), []byte{64}, make([]byte, 100)))
	})
	l.counted(2, func(c nat.Counters) uint64 { return c.Multicast }, func() {
		l.asks(5355, "224.0.0.252:5355", noise(20)) // LLMNR
		l.asks(40000, "224.0.0.251:5354", slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion()))
	})
	for _, group := range []*net.UDPConn{group4, group6, ssdp} {
		l.hearsNothing(group)
	}
}

func TestAHostileNetworkGetsNothingToTheGuest(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	l.device.do(func() {
		link, err := netlink.LinkByName("near-far")
		require.NoError(t, err)
		address(t, link, "198.51.100.7/32")
	})
	device, other, foreign := l.socket(deviceAddr+":5353"), l.socket(deviceAddr+":5000"), l.socket("198.51.100.7:5353")
	strangers := func(c nat.Counters) uint64 { return c.MulticastStrangers }
	l.counted(2, strangers, func() {
		l.say(foreign, mdns4, dnsResponse())
		l.say(other, mdns4, dnsResponse())
	})
	l.counted(3, func(c nat.Counters) uint64 { return c.MulticastIgnored }, func() {
		l.say(device, mdns4, slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion()))
		l.say(other, ssdp4, []byte(search))
		l.say(other, ssdp4, noise(100))
	})
	lies := [][]byte{
		[]byte("short"),
		slices.Concat(dnsHeader(0x84, 0, 2, 0, 0), dnsRecord(1, 192, 0, 2, 2)),
		slices.Concat(dnsHeader(0x84, 0, 1, 0, 0), dnsName, []byte{0, 1, 0x80, 1, 0, 0, 0, 120, 255, 255, 1}),
		slices.Concat(dnsHeader(0x84, 0, 1, 0, 0), []byte{0xc0}),
		slices.Concat(dnsHeader(0x84, 255, 255, 255, 255), make([]byte, 1400)),
		slices.Concat(dnsHeader(0x84, 0, 1, 0, 0), dnsRecord(16), make([]byte, 2000)),  // longer than the guest's MTU
		slices.Concat(dnsHeader(0x84, 0, 1, 0, 0), dnsRecord(16), make([]byte, 60000)), // and than anything
	}
	l.counted(uint64(len(lies)), func(c nat.Counters) uint64 { return c.MulticastDistorted }, func() {
		for _, lie := range lies {
			l.say(device, mdns4, lie)
		}
	})

	// What is sent to a port that asked is looked at too.
	group := l.socket(mdns4)
	l.asks(40000, mdns4, slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion()))
	to := l.hear(group).from.String()
	option(device, unix.IPPROTO_IP, unix.IP_TTL, 254)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.near.Attrs().Index, Dst: prefix(t, "198.51.100.7/32")}))
	l.counted(3, strangers, func() {
		l.say(device, to, dnsResponse()) // a router has passed it on
		l.say(other, to, dnsResponse())
		l.say(foreign, to, dnsResponse())
	})
	l.asks(40001, ssdp4, []byte(search))
	l.say(device, mdns4, dnsResponse())
	require.Equal(t, dnsResponse(), l.got().UDP.Payload, "the network is heard as before")
}

func TestFloodsOfMulticastHaveBounds(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	group := l.socket(mdns4)
	for range 300 {
		l.SendDatagram(porttest.Datagram{
			Src: netip.AddrPortFrom(l.IP, 5353), Dst: at(mdns4), Payload: slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion()),
		})
	}
	l.Settle()
	c := l.port.Counters()
	require.InDelta(t, 100, c.MulticastSent, 20)
	require.EqualValues(t, 300, c.MulticastSent+c.MulticastOverBudget)
	require.NoError(t, group.Close())

	l.Advance(2 * time.Second)
	device := l.socket(deviceAddr + ":5353")
	l.device.do(func() { option(device, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20) })
	for range 2000 {
		l.say(device, mdns4, dnsResponse())
		if c = l.port.Counters(); c.MulticastAnswersOverBudget > 0 {
			break
		}
		l.Turn()
	}
	require.NotZero(t, c.MulticastAnswersOverBudget)
	require.InDelta(t, 500, c.MulticastReceived, 100)
	texts := fmt.Sprint(l.Notices())
	require.Contains(t, texts, "the guest sends more multicast than is passed on")
	require.Contains(t, texts, "the network of --multicast sends more than the guest gets")

	// Every port that asks takes a socket, but only so many at once, and for a while.
	l.Advance(2 * time.Second)
	l.Settle()
	before := openFiles(t)
	for port := range uint16(60) {
		l.asks(20000+port, ssdp4, []byte(search))
	}
	require.Equal(t, before+16, openFiles(t))
	require.EqualValues(t, 60-16, l.port.Counters().MulticastAsksEvicted)
	l.Advance(31 * time.Second)
	l.Frames()
	l.say(device, mdns4, dnsResponse())
	l.got()
	require.Equal(t, before, openFiles(t))
}

// openFiles is how many descriptors this process has.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func TestThePolicyHoldsForMulticast(t *testing.T) {
	if inNamespace(t) {
		return
	}
	query := slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion())
	denied := func(c nat.Counters) uint64 { return c.MulticastDenied }
	for name, c := range map[string]struct {
		rules      []string // --allow with +, --deny with -
		restrict   bool
		asks, hear bool
	}{
		"open":                     {nil, false, true, true},
		"the device is denied":     {[]string{"-192.0.2.2"}, false, true, false},
		"another one is denied":    {[]string{"-192.0.2.3"}, false, true, true},
		"the group is denied":      {[]string{"-udp:224.0.0.251:5353"}, false, false, true},
		"restricted":               {nil, true, false, false},
		"restricted, group open":   {[]string{"+udp:224.0.0.251:5353"}, true, true, false},
		"restricted, and all open": {[]string{"+udp:224.0.0.251:5353", "+192.0.2.0/24"}, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			defer deleteLink(t, "near")
			l := newLAN(t, func(cfg *nat.Config) {
				cfg.Restrict = c.restrict
				for _, r := range c.rules {
					rule, err := spec.ParseRule(r[1:], r[0] == '+')
					require.NoError(t, err)
					cfg.Rules = append(cfg.Rules, rule)
				}
			})
			group := l.socket(mdns4)
			l.asks(5353, mdns4, query)
			if c.asks {
				l.hear(group)
			} else {
				require.EqualValues(t, 1, l.port.Counters().Denied)
				l.hearsNothing(group)
			}
			require.NoError(t, group.Close())
			device := l.socket(deviceAddr + ":5353")
			if c.hear {
				l.say(device, mdns4, dnsResponse())
				l.got()
				return
			}
			l.counted(1, denied, func() { l.say(device, mdns4, dnsResponse()) })
		})
	}
}

func deleteLink(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	require.NoError(t, err)
	require.NoError(t, netlink.LinkDel(link))
}

// Programs of the host are services of the host, which --allow-host opens.
func TestTheHostsOwnProgramsHearAGuestOnlyIfTheyAreOpen(t *testing.T) {
	if inNamespace(t) {
		return
	}
	opening := func(c *nat.Config) {
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: udp, Addr: netip.MustParseAddr("192.0.2.1"), Port: 5353})
	}
	leaving := func(*nat.Config) {}
	for _, c := range []struct {
		open         bool
		before, then func(*nat.Config)
	}{
		{false, leaving, nil}, {true, opening, nil}, {false, opening, leaving}, {true, leaving, opening},
	} {
		open := c.open
		func() {
			l := newLAN(t, c.before)
			defer deleteLink(t, "near")
			if c.then != nil {
				l.port.SetPolicy(newPolicy(t, c.then))
			}
			link, err := net.InterfaceByName("near")
			require.NoError(t, err)
			responder, err := net.ListenMulticastUDP("udp4", link, net.UDPAddrFromAddrPort(at(mdns4)))
			require.NoError(t, err)
			defer func() { _ = responder.Close() }()
			l.asks(5353, mdns4, slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion()))
			answer := func() {
				raw, err := responder.SyscallConn()
				require.NoError(t, err)
				_ = raw.Control(func(fd uintptr) {
					_ = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(link.Index)})
					_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 1)
				})
				_, err = responder.WriteToUDPAddrPort(dnsResponse(), at(mdns4))
				require.NoError(t, err)
			}
			if !open {
				l.hearsNothing(responder)
				l.counted(1, func(c nat.Counters) uint64 { return c.MulticastDenied }, answer)
				return
			}
			_ = responder.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _, err = responder.ReadFromUDPAddrPort(make([]byte, 2048))
			require.NoError(t, err)
			answer()
			l.got()
		}()
	}
}

func TestAnInterfaceOfMulticastGoesAndComesBack(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	before := l.near.Attrs().Index
	deleteLink(t, "near")
	query := slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion())
	l.Until("the user is told", func() bool { return len(l.Notices()) == 1 })
	require.Equal(t, "an interface of --multicast is gone; it is used again when it comes back", l.Notices()[0].Message)
	require.Equal(t, "near", l.Notices()[0].Value)
	l.counted(2, func(c nat.Counters) uint64 { return c.MulticastUnsent }, func() {
		l.asks(5353, mdns4, query)
		l.asks(5353, mdns6, query)
	})
	l.plug()
	require.NotEqual(t, before, l.near.Attrs().Index)
	l.Skip("the user is told", func() bool { return len(l.Notices()) == 2 })
	require.Equal(t, "an interface of --multicast is there again", l.Notices()[1].Message)
	l.Settle()
	l.Advance(time.Second)
	l.Turn()
	for to, device := range map[string]string{mdns4: deviceAddr + ":5353", mdns6: "[fe80::2]:5353"} {
		group := l.socket(to)
		l.asks(5353, to, query)
		l.hear(group)
		require.NoError(t, group.Close())
		l.say(l.socket(device), to, dnsResponse())
		l.got()
	}
	require.NoError(t, netlink.LinkSetDown(l.near))
	l.Until("the interface is down", func() bool {
		l.Advance(time.Second)
		before := l.port.Counters().MulticastUnsent
		l.asks(5353, mdns4, query)
		return l.port.Counters().MulticastUnsent > before
	})
}

func TestAnInterfaceThatCannotBeUsedForMulticastIsAnErrorWithItsCure(t *testing.T) {
	if inNamespace(t) {
		return
	}
	neighbour(t, "192.0.2.1/24")
	request, err := unix.NewIfreq("far")
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	require.NoError(t, err)
	request.SetUint16(unix.IFF_UP)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request), "multicast is off")
	require.NoError(t, unix.Close(fd))
	for names, want := range map[string]string{
		"nosuch":      `--multicast nosuch: the host has no such interface; "ip link" lists those that it has`,
		"lo":          `--multicast lo: this is the host's loopback; want an interface to a network`,
		"far":         `--multicast far: the interface has no multicast; "ip link set far multicast on" permits it`,
		"a,b,c,d,e":   `--multicast: 5 interfaces are too many; want 4 at most`,
		"lo,lo":       `--multicast lo: the interface is given twice; leave one out`,
		"-":           `--multicast -: the host has no such interface`,
		"a name/with": `--multicast a name/with: the host has no such interface`,
	} {
		c := nat.DefaultConfig()
		c.Multicast = strings.Split(names, ",")
		require.ErrorContains(t, c.Check(), want)
		_, err := nat.New(c)
		require.ErrorContains(t, err, want)
	}
	alone, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 5353})
	require.NoError(t, err)
	c := nat.DefaultConfig()
	c.Multicast = []string{"near"}
	before := openFiles(t)
	_, err = nat.New(c)
	require.ErrorContains(t, err, "--multicast near: a program of the host has UDP port 5353 for itself alone; have it share the port")
	require.Equal(t, before, openFiles(t), "no descriptor is left")
	require.NoError(t, alone.Close())
}

// Nothing is allocated for a message, in either direction.
func TestMulticastIsPassedOnWithoutAllocation(t *testing.T) {
	if inNamespace(t) {
		return
	}
	near, _ := neighbour(t, "192.0.2.1/24")
	r, err := reflect.Open(reflect.Config{Interfaces: []string{near.Attrs().Name}, Loop: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	query, guest, asking := slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion()), at("10.0.2.15:5353"), at("10.0.2.15:40000")
	n := 0
	searching := []byte(search)
	allocs := testing.AllocsPerRun(100, func() {
		if r.Send(0, reflect.MDNS, guest, query) == reflect.Sent && r.Send(0, reflect.SSDP, asking, searching) == reflect.Sent {
			n++
		}
		for d := r.Receive(0); d.Kind != reflect.Nothing; d = r.Receive(0) {
			n++
		}
	})
	require.Zero(t, allocs)
	require.Equal(t, 3*101, n, "the questions left, and that to the group came back, for the host hears them")
}

// In its sandbox the process opens sockets for ports that ask, and opens all anew when an interface has come back.
func TestMulticastWorksInTheSandbox(t *testing.T) {
	if inNamespace(t) {
		return
	}
	l := newLAN(t, nil)
	group := l.socket(ssdp4)
	helper := exec.Command("sh", "-c", "read go; ip link del near; read go; ip link add near type veth peer name far; "+
		"ip link set far up; ip link set near up; ip addr add 192.0.2.1/24 dev near; read never")
	helper.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	orders, err := helper.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, helper.Start())
	log := slog.New(slog.DiscardHandler)
	_, err = sandbox.Enter(sandbox.Config{Internet: true, Multicast: true, Log: log})
	require.NoError(t, err)

	l.asks(40000, ssdp4, []byte(search))
	require.Equal(t, []byte(search), l.hear(group).payload)
	for i, gone := range []bool{true, false} {
		_, err = orders.Write([]byte("go\n"))
		require.NoError(t, err)
		l.Skip("the user is told", func() bool { return len(l.Notices()) > i })
		require.Equal(t, gone, l.Notices()[i].Level == int(slog.LevelWarn), "%+v", l.Notices()[i])
	}
	for _, to := range []string{mdns4, mdns6, ssdp4} {
		before := l.port.Counters().MulticastSent
		l.Until("the new interface takes a question", func() bool {
			l.Advance(time.Second)
			l.asks(5353, to, slices.Concat(dnsHeader(0, 1, 0, 0, 0), dnsQuestion()))
			l.asks(40000, to, []byte(search))
			return l.port.Counters().MulticastSent > before
		})
	}
}
