package nat_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/proxyproto"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// beyond is a destination of the tests with proxies, which themselves are on the loopback.
const beyond = "198.51.100.7:443"

// beyondAs is beyond as SOCKS has it.
const beyondAs = "\x01\xc6\x33\x64\x07\x01\xbb"

// way reads a way, in which PROXY is the address of l.
func way(t testing.TB, text string, l net.Listener) spec.Way {
	t.Helper()
	if l != nil {
		text = strings.ReplaceAll(text, "PROXY", l.Addr().String())
	}
	w, err := spec.ParseWay(text)
	require.NoError(t, err)
	return w
}

// outbound is a bench whose guest's connections leave by a proxy of the test's.
type outbound struct {
	*bench
	proxy *net.TCPListener
}

func newOutbound(t *testing.T, text string, s setup) *outbound {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(porttest.FreePort(t)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	inner := s.config
	s.config = func(c *nat.Config) {
		c.Way = way(t, text, l)
		if inner != nil {
			inner(c)
		}
	}
	p := &outbound{newBench(t, s), l}
	p.Resolve()
	p.Frames()
	return p
}

// accept takes the next connection to the proxy, and reads what the proxy is sent first.
func (p *outbound) accept(first string) *net.TCPConn {
	p.t.Helper()
	p.Settle()
	require.NoError(p.t, p.proxy.SetDeadline(time.Now().Add(time.Minute)))
	host, err := p.proxy.AcceptTCP()
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = host.Close() })
	require.Equal(p.t, first, string(p.readSome(host, len(first))))
	return host
}

// says sends what the proxy says.
func (p *outbound) says(host *net.TCPConn, text string) {
	p.t.Helper()
	_, err := host.Write([]byte(text))
	require.NoError(p.t, err)
}

const (
	socksHello   = "\x05\x01\x00"
	socksRequest = "\x05\x01\x00" + beyondAs
	socksTaken   = "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00"
	httpRequest  = "CONNECT " + beyond + " HTTP/1.1\r\nHost: " + beyond + "\r\n\r\n"
)

// A guest's connection leaves by SOCKS 5. Its SYN is answered when the proxy has connected it, and what the proxy sends behind its
// answer, even in one piece with it, is the stream.
func TestAConnectionLeavesBySOCKS(t *testing.T) {
	p := newOutbound(t, "via=socks5://me:secret@PROXY", setup{})
	conn := p.Dial(at(beyond))
	host := p.accept("\x05\x02\x00\x02")
	p.says(host, "\x05\x02")
	require.Equal(t, "\x01\x02me\x06secret", string(p.readSome(host, 11)))
	p.says(host, "\x01\x00")
	require.Equal(t, socksRequest, string(p.readSome(host, len(socksRequest))))
	p.Settle()
	require.Equal(t, porttest.SynSent, conn.State, "the proxy has not connected it yet")
	p.says(host, socksTaken+"220 the peer speaks first\r\n")
	p.Until("the connection is open", func() bool { return conn.State == porttest.Open })
	conn.WaitFor(len("220 the peer speaks first\r\n"))
	require.Equal(t, "220 the peer speaks first\r\n", string(conn.Read()))
	conn.Send(noise(100_000))
	requireSame(t, noise(100_000), p.readSome(host, 100_000))
	_, err := host.Write(noise(200_000))
	require.NoError(t, err)
	conn.WaitFor(200_000)
	requireSame(t, noise(200_000), conn.Read())
}

// HTTP's CONNECT, with an answer that comes byte by byte.
func TestAConnectionLeavesByHTTP(t *testing.T) {
	p := newOutbound(t, "via=http://PROXY", setup{})
	conn := p.Dial(at(beyond))
	host := p.accept(httpRequest)
	const answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"
	for _, c := range answer {
		require.Equal(t, porttest.SynSent, conn.State)
		p.says(host, string(c))
		p.Settle()
	}
	p.Until("the connection is open", func() bool { return conn.State == porttest.Open })
	conn.Send([]byte("hello"))
	require.Equal(t, "hello", string(p.readSome(host, 5)))
	p.says(host, "world")
	conn.WaitFor(5)
	require.Equal(t, "world", string(conn.Read()))
	require.NoError(t, host.CloseWrite())
	conn.Close()
	p.readAll(host)
}

// What a proxy answers becomes what a host's own connect would have told: a reset, or ICMP.
func TestAProxysRefusalIsTheGuests(t *testing.T) {
	for name, c := range map[string]struct {
		via, first, answer, second, refusal string
		code                                uint8 // of ICMP
		reset                               bool
	}{
		"SOCKS: refused":             {"socks5", socksHello, "\x05\x00", socksRequest, "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", 0, true},
		"SOCKS: host unreachable":    {"socks5", socksHello, "\x05\x00", socksRequest, "\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", 1, false},
		"SOCKS: network unreachable": {"socks5", socksHello, "\x05\x00", socksRequest, "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 0, false},
		"SOCKS: forbidden":           {"socks5", socksHello, "\x05\x00", socksRequest, "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", 13, false},
		"SOCKS: wants a password":    {"socks5", socksHello, "\x05\xff", "", "", 13, false},
		"HTTP: forbidden":            {"http", httpRequest, "", "", "HTTP/1.1 403 Forbidden\r\n\r\nno", 13, false},
		"HTTP: wants a password":     {"http", httpRequest, "", "", "HTTP/1.1 407 Who?\r\n\r\n", 13, false},
		"HTTP: bad gateway":          {"http", httpRequest, "", "", "HTTP/1.1 502 Bad\r\n\r\n", 1, false},
		"HTTP: not HTTP":             {"http", httpRequest, "", "", "SSH-2.0-x\r\n", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newOutbound(t, "via="+c.via+"://PROXY", setup{})
			conn := p.Dial(at(beyond))
			host := p.accept(c.first)
			p.says(host, c.answer)
			require.Equal(t, c.second, string(p.readSome(host, len(c.second))))
			if c.refusal != "" {
				p.says(host, c.refusal)
			}
			var told []*porttest.ICMP
			p.Until("the guest is told", func() bool {
				told = append(told, unreachables(p.Frames())...)
				return conn.State == porttest.Refused || len(told) > 0
			})
			require.Equal(t, c.reset, conn.State == porttest.Refused)
			if !c.reset {
				require.Equal(t, c.code, told[0].Code)
				requireQuotedSYN(t, conn, told[0].Payload)
			}
			p.Settle()
			require.Zero(t, p.Sockets())
			require.Equal(t, map[string]int{"ended_proxy_failed": 1}, p.endings())
		})
	}
}

// A proxy that ends the connection, takes none, or sleeps is a destination that there is not: nothing goes there beside it.
func TestADeadProxyIsNoWayOut(t *testing.T) {
	p := newOutbound(t, "via=socks5://PROXY", setup{})
	conn := p.Dial(at(beyond))
	host := p.accept(socksHello)
	require.NoError(t, host.Close())
	p.Until("the guest is refused", func() bool { return conn.State == porttest.Refused })

	conn = p.Dial(at(beyond))
	host = p.accept(socksHello)
	p.says(host, "\x05") // half an answer
	p.Run(29 * time.Second)
	require.Equal(t, porttest.SynSent, conn.State)
	require.Empty(t, unreachables(p.Frames()))
	p.Run(2 * time.Second)
	told := unreachables(p.Frames())
	require.Len(t, told, 1)
	require.EqualValues(t, 1, told[0].Code, "host unreachable")
	require.Zero(t, p.Sockets())
	conn.Forget()

	require.NoError(t, p.proxy.Close())
	conn = p.Dial(at(beyond))
	p.Until("the guest is refused", func() bool { return conn.State == porttest.Refused })
	p.Settle()
	require.Zero(t, p.Sockets())
	require.Equal(t, map[string]int{"ended_proxy_failed": 3}, p.endings())
	for _, n := range p.Notices() {
		require.NotContains(t, n.Value, "secret")
	}
	require.NotEmpty(t, p.Notices(), "the user is told that the proxy is dead")
}

// A guest that takes its SYN back while the proxy is asked leaves nothing behind.
func TestAGuestMayGiveUpWhileTheProxyIsAsked(t *testing.T) {
	p := newOutbound(t, "via=socks5://PROXY", setup{})
	conn := p.Dial(at(beyond))
	p.accept(socksHello)
	p.SendSegment(porttest.Segment{Src: conn.Local, Dst: conn.Remote, Seq: conn.ISS + 1, Flags: header.TCPFlagRst})
	conn.Forget()
	p.Settle()
	require.Zero(t, p.Sockets())
	p.Run(time.Minute)
	require.Equal(t, map[string]int{"ended_withdrawn_by_guest": 1}, p.endings())
}

// By a proxy there is TCP only. What is not TCP is closed, and does not leave beside the proxy.
func TestWhatAProxyCannotLeadIsClosed(t *testing.T) {
	for _, text := range []string{"via=socks5://PROXY", "via=http://PROXY"} {
		p := newOutbound(t, text, setup{})
		p.SendDatagram(porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at(beyond), Payload: []byte("x")})
		p.Settle()
		told := unreachables(p.Frames())
		require.Len(t, told, 1)
		require.EqualValues(t, 13, told[0].Code, "prohibited")
		p.echo("198.51.100.7", 1, 1, []byte("x"))
		p.Settle()
		require.Len(t, unreachables(p.Frames()), 1)
		require.Zero(t, p.Sockets())
		require.EqualValues(t, 2, p.port.Counters().Denied)
		require.Contains(t, p.explain("udp:"+beyond).Why, "is a way for TCP only")
	}
}

// The host's own services, and what a redirect leads to, are not asked of the proxy.
func TestTheHostsServicesAreNotBehindTheProxy(t *testing.T) {
	p := newOutbound(t, "via=socks5://PROXY", setup{})
	conn, host := p.connect()
	conn.Send([]byte("hello"))
	require.Equal(t, "hello", string(p.readSome(host, 5)))
}

// A rule's way is that of what it allows, and is live: what has begun goes on.
func TestAWayIsThatOfARule(t *testing.T) {
	p := newOutbound(t, "", setup{})
	rule := func(text string) spec.Rule {
		r, err := spec.ParseRule(strings.ReplaceAll(text, "PROXY", p.proxy.Addr().String()), true)
		require.NoError(t, err)
		return r
	}
	begin := func() (*porttest.TCP, *net.TCPConn) {
		conn := p.Dial(at(beyond))
		host := p.accept(socksHello)
		p.says(host, "\x05\x00")
		require.Equal(t, socksRequest, string(p.readSome(host, len(socksRequest))))
		p.says(host, socksTaken)
		p.Until("the connection is open", func() bool { return conn.State == porttest.Open })
		return conn, host
	}
	policy := func(texts ...string) *nat.Policy {
		return newPolicy(t, func(c *nat.Config) {
			for _, text := range texts {
				c.Rules = append(c.Rules, rule(text))
			}
		})
	}
	p.port.SetPolicy(policy("198.51.100.0/24;via=socks5://PROXY"))
	before, host := begin()
	x := p.explain("tcp:" + beyond)
	require.True(t, x.Allowed)
	require.Equal(t, "via=socks5://"+p.proxy.Addr().String(), x.Way.String())
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), x.Source)
	require.Empty(t, p.explain("tcp:192.0.2.1:80").Way)

	p.port.SetPolicy(policy("198.51.100.0/24;via=http://PROXY"))
	p.Settle()
	before.Send([]byte("still here"))
	require.Equal(t, "still here", string(p.readSome(host, 10)))
	p.Dial(at(beyond))
	p.accept(httpRequest)
}

// A redirect of a rule leads to a local proxy, which is told by a PROXY header who wants to go where, before the guest's first byte.
func TestARuleLeadsToAProxyThatIsToldTheDestination(t *testing.T) {
	p := newOutbound(t, "", setup{})
	r, err := spec.ParseRule("tcp:198.51.100.0/24:443;redirect="+p.proxy.Addr().String(), true)
	require.NoError(t, err)
	p.port.SetPolicy(newPolicy(t, func(c *nat.Config) { c.Rules = []spec.Rule{r} }))
	conn := p.Connect(at(beyond))
	conn.Send([]byte("hello"))
	host := p.accept("")
	got := p.readSome(host, 28+5)
	h, n, err := proxyproto.Parse(got)
	require.NoError(t, err)
	require.Equal(t, proxyproto.Header{Source: conn.Local, Destination: at(beyond)}, h)
	require.Equal(t, "hello", string(got[n:]))
	p.says(host, "world")
	conn.WaitFor(5)
	require.Equal(t, "world", string(conn.Read()))
}

// A redirect cannot be the way of everything: a proxy of the host would be asked for itself.
func TestTheWayOfEverythingIsChecked(t *testing.T) {
	c := nat.DefaultConfig()
	c.Way = way(t, "redirect=127.0.0.1:8443", nil)
	require.ErrorContains(t, c.Check(), "is a key of a rule")
	c.Way = spec.Way{Interface4: "a name that is too long"}
	require.ErrorContains(t, c.Check(), "names of interfaces")
}

// Rules that deny take no way, as nothing takes it.
func TestWhatIsDeniedTakesNoWay(t *testing.T) {
	r, err := spec.ParseRule("198.51.100.0/24;interface=wg0", false)
	if err == nil {
		err = r.Check(netip.Prefix{}, netip.Prefix{})
	}
	require.ErrorContains(t, err, "takes no way")
}
