package nat_test

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/proxyproto"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// newProxied is a bench with a forward that has those options in front, into port 80 of the guest.
func newProxied(t *testing.T, options string, s setup) (b *bench, dial func() *net.TCPConn) {
	t.Helper()
	host := porttest.FreePort(t).String()
	inner := s.config
	s.config = func(c *nat.Config) {
		f, err := spec.ParseForward(options + host + ":80")
		require.NoError(t, err)
		c.Forwards = append(c.Forwards, f)
		if inner != nil {
			inner(c)
		}
	}
	b = newBench(t, s)
	b.Resolve()
	return b, func() *net.TCPConn { return requireConnects(t, host) }
}

// of is the header that tells the guest of a client.
func of(version int, client net.Conn) []byte {
	return proxyproto.Append(nil, version, proxyproto.Header{
		Source:      netip.MustParseAddrPort(client.LocalAddr().String()),
		Destination: netip.MustParseAddrPort(client.RemoteAddr().String()),
	})
}

// eachVersion runs f with each option that sends a header, on each kernel.
func eachVersion(t *testing.T, f func(t *testing.T, option string, version int, config func(*nat.Config))) {
	for version, option := range []string{1: "send-proxy:", 2: "send-proxy-v2:"} {
		if version > 0 {
			t.Run(option, func(t *testing.T) {
				eachKernel(t, func(t *testing.T, config func(*nat.Config)) { f(t, option, version, config) })
			})
		}
	}
}

func TestTheGuestIsToldOfTheClientByAHeader(t *testing.T) {
	eachVersion(t, func(t *testing.T, option string, version int, config func(*nat.Config)) {
		b, dial := newProxied(t, option, setup{config: config})
		l := b.Listen(80)
		client := dial()
		c := l.Accept()
		require.Equal(t, b.Gateway, c.Remote.Addr(), "whom the guest sees otherwise")
		want := of(version, client)
		c.WaitFor(len(want)) // though the client says nothing
		require.Equal(t, string(want), string(c.Read()))

		up, down := noise(2<<20), noise(1<<20)
		go func() { _, _ = client.Write(up) }()
		c.Send(down)
		requireSame(t, down, b.readSome(client, len(down)))
		c.WaitFor(len(up))
		requireSame(t, up, c.Received())
		b.Settle()
		require.EqualValues(t, len(up), b.onlyFlow().ToGuest, "the header is not the client's")

		require.NoError(t, client.CloseWrite())
		b.Until("the guest has seen the end", c.Ended)
		c.Close()
		require.NoError(t, b.readAll(client).err)
		b.Settle()
		require.Empty(t, b.port.Snapshot(b.Now()).Flows)
		require.Empty(t, b.endings())
	})
}

func TestAHeaderComesBeforeWhatTheClientHasSentAlready(t *testing.T) {
	eachVersion(t, func(t *testing.T, option string, version int, config func(*nat.Config)) {
		b, dial := newProxied(t, option, setup{config: config})
		l := b.Listen(80)
		l.Mute = true
		client := dial()
		_, err := client.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, client.CloseWrite())
		b.Settle()
		l.Mute = false
		b.Skip("the SYN is repeated", func() bool { return len(l.Pending()) == 1 })
		c := l.Accept()
		b.Until("the end comes", c.Ended)
		require.Equal(t, string(of(version, client))+"hello", string(c.Received()))
	})
}

// The header is in no queue, and comes again all the same: whole, and by halves.
func TestALostHeaderIsRepeated(t *testing.T) {
	eachVersion(t, func(t *testing.T, option string, version int, config func(*nat.Config)) {
		for name, lost := range map[string]func(n int, s *porttest.Segment) bool{
			"alone":                  func(n int, _ *porttest.Segment) bool { return n == 1 },
			"and its repetition":     func(n int, _ *porttest.Segment) bool { return n <= 2 },
			"with all that followed": func(n int, _ *porttest.Segment) bool { return n <= 10 },
			"not it, but the data":   func(n int, _ *porttest.Segment) bool { return n > 1 && n <= 6 },
			"every other segment":    func(n int, _ *porttest.Segment) bool { return n < 60 && n%2 == 1 },
		} {
			for _, sacks := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, SACK %v", name, sacks), func(t *testing.T) {
					b, dial := newProxied(t, option, setup{config: config, guest: porttest.Options{MTU: 576}})
					l := b.Listen(80, porttest.TCPOptions{SACK: sacks})
					client := dial()
					data := noise(30_000)
					_, err := client.Write(data)
					require.NoError(t, err)
					segments := 0
					b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
						if d != porttest.ToGuest || len(s.Payload) == 0 {
							return false
						}
						segments++
						return lost(segments, s)
					}
					c := l.Accept()
					want := append(of(version, client), data...)
					b.Skip("all has come", func() bool { return len(c.Received()) == len(want) })
					requireSame(t, want, c.Received())
					require.NoError(t, client.CloseWrite())
					b.Skip("the end has come", c.Ended)
					require.Empty(t, b.endings())
				})
			}
		}
	})
}

func TestAHeaderFitsASmallWindow(t *testing.T) {
	eachVersion(t, func(t *testing.T, option string, version int, config func(*nat.Config)) {
		for _, window := range []int{1, 7, 20} {
			t.Run(fmt.Sprint(window), func(t *testing.T) {
				b, dial := newProxied(t, option, setup{config: config})
				l := b.Listen(80, porttest.TCPOptions{Window: window})
				client := dial()
				_, err := client.Write([]byte("hello"))
				require.NoError(t, err)
				c := l.Accept()
				want := string(of(version, client)) + "hello"
				b.Skip("all has come", func() bool { return len(c.Received()) == len(want) })
				require.Equal(t, want, string(c.Received()))
			})
		}
	})
}

func TestAWindowThatIsClosedHoldsAHeaderBack(t *testing.T) {
	b, dial := newProxied(t, "send-proxy:", setup{})
	l := b.Listen(80, porttest.TCPOptions{Window: 10})
	client := dial()
	c := l.Accept()
	c.Window = 0
	b.Run(time.Second)
	want, got := of(1, client), len(c.Received())
	require.Less(t, got, len(want))
	b.Run(5 * time.Second)
	require.Len(t, c.Received(), got)
	c.Window = 65535
	c.SendAck()
	c.WaitFor(len(want))
	require.Equal(t, string(want), string(c.Received()))
}

func TestClientsOfAUnixSocketHaveNoAddress(t *testing.T) {
	for option, want := range map[string]string{
		"send-proxy:":    "PROXY UNKNOWN\r\n",
		"send-proxy-v2:": "\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00",
	} {
		path := filepath.Join(t.TempDir(), "web.sock")
		b := newBench(t, setup{config: withForward(t, option+"unix:"+path+":80")})
		b.Resolve()
		client, c := b.call(path, b.Listen(80))
		_, err := client.Write([]byte("hello"))
		require.NoError(t, err)
		c.WaitFor(len(want) + 5)
		require.Equal(t, want+"hello", string(c.Received()))
	}
}

// A forward that takes headers shows the guest the client that they name.
func TestTheClientThatAHeaderNamesIsSeenByTheGuest(t *testing.T) {
	at := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		source netip.AddrPort
		seen   string
	}{
		"from afar":                 {at("192.0.2.7:40000"), "192.0.2.7:40000"},
		"IPv4 in IPv6":              {at("[::ffff:192.0.2.7]:40000"), "192.0.2.7:40000"},
		"IPv6, which is not spoken": {at("[2001:db8::7]:40000"), "10.0.2.2:40000"},
		"on the host":               {at("127.0.0.1:40000"), "10.0.2.2:40000"},
		"in the guest's network":    {at("10.0.2.99:40000"), "10.0.2.2:40000"},
		"the guest's own address":   {at("10.0.2.15:40000"), "10.0.2.2:40000"},
		"a group":                   {at("224.0.0.1:40000"), "10.0.2.2:40000"},
		"nobody's":                  {at("0.0.0.0:40000"), "10.0.2.2:40000"},
		"everybody's":               {at("255.255.255.255:40000"), "10.0.2.2:40000"},
	} {
		for version := 1; version <= 2; version++ {
			t.Run(fmt.Sprintf("%s, version %d", name, version), func(t *testing.T) {
				b, dial := newProxied(t, "accept-proxy:send-proxy:", setup{})
				l := b.Listen(80)
				client := dial()
				h := proxyproto.Header{Source: c.source, Destination: at("198.51.100.1:443")}
				_, err := client.Write(append(proxyproto.Append(nil, version, h), "hello"...))
				require.NoError(t, err)
				guest := l.Accept()
				require.Equal(t, c.seen, guest.Remote.String())
				h.Source = netip.AddrPortFrom(h.Source.Addr().Unmap(), h.Source.Port())
				want := string(proxyproto.Append(nil, 1, h)) + "hello"
				guest.WaitFor(len(want))
				require.Equal(t, want, string(guest.Received()), "the header of before is gone, that to the guest is as told")
			})
		}
	}
}

func TestAPortThatNobodyCanHaveIsNotShown(t *testing.T) {
	b, dial := newProxied(t, "accept-proxy:", setup{})
	l := b.Listen(80)
	client := dial()
	_, err := client.Write([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 0 0\r\n"))
	require.NoError(t, err)
	c := l.Accept()
	require.Equal(t, "192.0.2.7", c.Remote.Addr().String())
	require.NotZero(t, c.Remote.Port())
}

// Headers without addresses are those of the proxy's own connections, such as its health checks.
func TestAProxyThatSpeaksForItself(t *testing.T) {
	for name, header := range map[string]string{
		"UNKNOWN": "PROXY UNKNOWN\r\n",
		"LOCAL":   "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			b, dial := newProxied(t, "accept-proxy:send-proxy:", setup{})
			l := b.Listen(80)
			client := dial()
			_, err := client.Write([]byte(header + "hello"))
			require.NoError(t, err)
			c := l.Accept()
			require.Equal(t, netip.AddrPortFrom(b.Gateway, uint16(client.LocalAddr().(*net.TCPAddr).Port)), c.Remote)
			want := string(of(1, client)) + "hello"
			c.WaitFor(len(want))
			require.Equal(t, want, string(c.Received()))
		})
	}
}

const named = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n"

func TestAHeaderMayComeByteByByte(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for name, header := range map[string]string{
			"version 1": named,
			"version 2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x13\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x01\xbb\x04\x00\x04pads",
		} {
			t.Run(name, func(t *testing.T) {
				b, dial := newProxied(t, "accept-proxy:", setup{config: config})
				l := b.Listen(80)
				client := dial()
				for i := range header {
					require.Empty(t, l.Pending(), "the guest is called when its client is known")
					_, err := client.Write([]byte{header[i]})
					require.NoError(t, err)
					b.Settle()
				}
				c := l.Accept()
				require.Equal(t, "192.0.2.7:40000", c.Remote.String())
				data := noise(200_000)
				go func() { _, _ = client.Write(data) }()
				c.WaitFor(len(data))
				requireSame(t, data, c.Received())
				c.Send([]byte("answer"))
				require.Equal(t, "answer", string(b.readSome(client, 6)))
			})
		}
	})
}

func TestAHeaderByAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	b := newBench(t, setup{config: withForward(t, "accept-proxy:send-proxy:unix:"+path+":80")})
	b.Resolve()
	l := b.Listen(80)
	client, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer client.Close()
	for _, part := range []string{named[:9], named[9:] + "hel", "lo"} {
		_, err = client.Write([]byte(part))
		require.NoError(t, err)
		b.Settle()
	}
	c := l.Accept()
	require.Equal(t, "192.0.2.7:40000", c.Remote.String())
	c.WaitFor(len(named) + 5)
	require.Equal(t, named+"hello", string(c.Received()))
}

// What does not introduce itself gets nowhere, and the guest hears nothing of it.
func TestACallWithoutAGoodHeaderIsReset(t *testing.T) {
	for name, c := range map[string]struct {
		says   string
		closes bool
		cause  string
	}{
		"HTTP":                          {"GET / HTTP/1.1\r\n\r\n", false, "ended_bad_proxy_header"},
		"a lie":                         {"PROXY TCP4 192.0.2.7 2001:db8::1 1 2\r\n", false, "ended_bad_proxy_header"},
		"a line that does not end":      {"PROXY TCP4 " + strings.Repeat("1", 100), false, "ended_bad_proxy_header"},
		"nothing, and the end":          {"", true, "ended_cut_proxy_header"},
		"half a header, and the end":    {named[:20], true, "ended_cut_proxy_header"},
		"nothing":                       {"", false, "ended_late_proxy_header"},
		"all but the last byte":         {named[:len(named)-1], false, "ended_late_proxy_header"},
		"a length that does not follow": {"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\xff\xc0\x00", false, "ended_late_proxy_header"},
	} {
		t.Run(name, func(t *testing.T) {
			b, dial := newProxied(t, "accept-proxy:", setup{})
			l := b.Listen(80)
			client := dial()
			_, err := client.Write([]byte(c.says))
			require.NoError(t, err)
			if c.closes {
				require.NoError(t, client.CloseWrite())
			}
			b.Settle()
			if c.cause == "ended_late_proxy_header" {
				require.Equal(t, "unannounced", b.onlyFlow().State)
				b.Run(4900 * time.Millisecond)
				require.Empty(t, b.endings())
				b.Run(200 * time.Millisecond)
			}
			require.ErrorContains(t, b.readAll(client).err, "connection reset")
			require.Equal(t, map[string]int{c.cause: 1}, b.endings())
			require.Empty(t, l.Pending())
			b.Settle()
			require.Empty(t, b.port.Snapshot(b.Now()).Flows)
			require.Equal(t, 1, b.Sockets(), "only the forward's is left")
		})
	}
}

func TestACallThatIsResetBeforeItsHeader(t *testing.T) {
	b, dial := newProxied(t, "accept-proxy:", setup{})
	client := dial()
	b.Settle()
	require.NoError(t, client.SetLinger(0))
	require.NoError(t, client.Close())
	b.Until("it is over", func() bool { return len(b.port.Snapshot(b.Now()).Flows) == 0 })
	require.Equal(t, map[string]int{"ended_by_host": 1}, b.endings())
}

// Calls that never introduce themselves go for those that do, and the guest hears of none of them.
func TestCallsWithoutAHeaderAreOfACrowd(t *testing.T) {
	b, dial := newProxied(t, "accept-proxy:", setup{config: func(c *nat.Config) { c.MaxFlows = 16 }})
	l := b.Listen(80)
	b.Frames()
	for range 10 {
		dial()
		b.Settle()
	}
	require.Equal(t, map[string]int{"ended_evicted": 6}, b.endings())
	require.Empty(t, b.Frames())
	client := dial()
	_, err := client.Write([]byte(named + "hello"))
	require.NoError(t, err)
	c := l.Accept()
	c.WaitFor(5)
}

func TestAGuestThatGoesWhileAHeaderIsAwaited(t *testing.T) {
	b, dial := newProxied(t, "accept-proxy:", setup{config: func(c *nat.Config) { c.ReconnectGrace = grace }})
	client := dial()
	b.Settle()
	b.Disconnect()
	_, err := client.Write([]byte(named))
	require.NoError(t, err)
	require.ErrorContains(t, b.readAll(client).err, "connection reset")
	require.Equal(t, map[string]int{"ended_no_guest": 1}, b.endings())
}

func TestAGateAndHeaders(t *testing.T) {
	host := porttest.FreePort(t).String()
	b := newBench(t, setup{config: withForward(t, "gate:accept-proxy:send-proxy-v2:"+host+":80")})
	b.Resolve()
	requireRefused(t, host)
	l := b.Listen(80)
	b.opened()
	client := requireConnects(t, host)
	_, err := client.Write([]byte(named))
	require.NoError(t, err)
	c := l.Accept()
	h, _, err := proxyproto.Parse([]byte(named))
	require.NoError(t, err)
	want := proxyproto.Append(nil, 2, h)
	c.WaitFor(len(want))
	require.Equal(t, want, c.Received())
}

// A guest whose receive buffers hold less than a header gets it in pieces.
func TestAHeaderFitsSmallBuffers(t *testing.T) {
	b, dial := newProxied(t, "send-proxy:", setup{guest: porttest.Options{Features: vnet.FeatureVersion1, BufSize: 90}})
	l := b.Listen(80)
	client := dial()
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	c := l.Accept()
	want := string(of(1, client)) + "hello"
	c.WaitFor(len(want))
	require.Equal(t, want, string(c.Received()))
}
