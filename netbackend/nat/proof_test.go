package nat_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/netbackend/porttest"
)

// What a guest sends on a connection that must tell its server, and when the host's peer gets it. The rules are the test's own: a name
// that begins with "good" is allowed, and connections without one if nameless is.

// proving is a bench whose connections to the host's port must tell their server.
type proving struct {
	*bench
	ways     policy.Proof
	asked    []string // names that the rules were asked for
	nameless bool     // connections without a name are allowed
}

func newProving(t *testing.T, ways policy.Proof, s setup) *proving {
	b := &proving{bench: newBench(t, s), ways: ways}
	nat.Prove(b.port, func(name string, _ policy.Proof) bool {
		b.asked = append(b.asked, name)
		return strings.HasPrefix(name, "good") || name == "" && b.nameless
	})
	return b
}

// connect makes a connection of the guest that must tell its server.
func (b *proving) connect(opt ...porttest.TCPOptions) (*porttest.TCP, *net.TCPConn) {
	b.t.Helper()
	c, host := b.bench.connect(opt...)
	nat.Hold(b.port, c.Local.Port(), b.ways)
	return c, host
}

// counters are those of the engine.
func (b *proving) counters() nat.Counters { return b.port.Counters() }

// clientHello is what a client of TLS sends first for a name.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake() //nolint:gosec // nothing is sent
		_ = client.Close()
	}()
	b := make([]byte, 16<<10)
	n, err := server.Read(b)
	require.NoError(t, err)
	_ = server.Close()
	return b[:n]
}

// request is one of HTTP for a host.
func request(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }

// requireNothing checks that the host's peer has got no byte, nor the end.
func (b *proving) requireNothing(host *net.TCPConn) {
	b.t.Helper()
	raw, err := host.SyscallConn()
	require.NoError(b.t, err)
	require.NoError(b.t, raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		require.Equal(b.t, unix.EAGAIN, err, "the peer has got %d bytes", n)
		return true
	}))
}

// requireRefused checks that the guest is reset, and the host's peer as well, without a byte.
func (b *proving) requireRefused(c *porttest.TCP, host *net.TCPConn) {
	b.t.Helper()
	b.Until("the guest is reset", func() bool { return c.State == porttest.WasReset })
	r := b.readAll(host)
	require.Empty(b.t, r.data)
	require.ErrorIs(b.t, r.err, unix.ECONNRESET)
	require.Zero(b.t, b.held(), "nothing is kept")
}

// held is of how many connections bytes are kept.
func (b *proving) held() int {
	n, _ := nat.Held(b.port)
	return n
}

func TestNoByteOfAHelloLeavesBeforeItsNameIsAllowed(t *testing.T) {
	b := newProving(t, policy.ProofTLS, setup{})
	c, host := b.connect()
	hello := clientHello(t, "good.example")
	for i := range hello {
		b.requireNothing(host)
		c.Send(hello[i : i+1])
		b.Settle()
	}
	require.Equal(t, []string{"good.example"}, b.asked)
	requireSame(t, hello, b.readSome(host, len(hello)))
	require.Zero(t, b.held())
	answer := noise(100000)
	go func() { _, _ = host.Write(answer) }()
	c.WaitFor(len(answer))
	requireSame(t, answer, c.Read())
	rest := noise(300000)
	c.Send(rest)
	requireSame(t, rest, b.readSome(host, len(rest)))
	require.Zero(t, b.counters().TCPOutOfOrder)
}

func TestAHelloAndEarlyDataGoOnInOrder(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newProving(t, policy.ProofTLS, setup{config: config})
		c, host := b.connect()
		early := append([]byte{23, 3, 3, 0x40, 0}, noise(1<<14)...) // 0-RTT
		all := bytes.Join([][]byte{clientHello(t, "good.example"), early, early, early}, nil)
		c.Send(all)
		requireSame(t, all, b.readSome(host, len(all)))
		require.Equal(t, []string{"good.example"}, b.asked)
		_, err := host.Write(append([]byte{22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3}, make([]byte, 84)...))
		require.NoError(t, err)
		c.WaitFor(95)
		c.Send([]byte("no TLS at all"))
		require.Equal(t, "no TLS at all", string(b.readSome(host, 13)))
		c.Close()
		require.NoError(t, b.readAll(host).err)
	})
}

func TestAConnectionThatNamesNoAllowedServerIsReset(t *testing.T) {
	hello := func(name string) string { return string(clientHello(t, name)) }
	good := hello("good.example")
	for what, c := range map[string]struct {
		ways   policy.Proof
		stream string
		asked  []string
	}{
		"a wrong name":             {policy.ProofTLS, hello("bad.example"), []string{"bad.example"}},
		"no name":                  {policy.ProofTLS, hello(""), []string{""}},
		"an address":               {policy.ProofTLS, strings.ReplaceAll(good, "good.example", "192.0.2.1234"), []string{""}},
		"another protocol":         {policy.ProofTLS, "SSH-2.0-x\r\n", []string{""}},
		"HTTP where TLS is due":    {policy.ProofTLS, request("good.example"), []string{""}},
		"SSL 2.0":                  {policy.ProofTLS, "\x80\x2e\x01\x03\x01", []string{""}},
		"a long hello":             {policy.ProofTLS, strings.Repeat("\x16\x03\x01\x00\x01\x01", 3000), nil},
		"a wrong host":             {policy.ProofHTTP, request("bad.example"), []string{"bad.example"}},
		"an address as host":       {policy.ProofHTTP, request("192.0.2.1"), []string{""}},
		"another port":             {policy.ProofHTTP, request("good.example:9"), nil},
		"two hosts":                {policy.ProofHTTP, "GET / HTTP/1.1\r\nHost: good.example\r\nHost: bad.example\r\n\r\n", nil},
		"TLS where HTTP is due":    {policy.ProofHTTP, good, nil},
		"HTTP/2":                   {policy.ProofHTTP, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nil},
		"a long head":              {policy.ProofHTTP, "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 17000), nil},
		"either, and a wrong name": {policy.ProofTLS | policy.ProofHTTP, hello("bad.example"), []string{"bad.example"}},
		"either, and a wrong host": {policy.ProofTLS | policy.ProofHTTP, request("bad.example"), []string{"bad.example"}},
	} {
		t.Run(what, func(t *testing.T) {
			b := newProving(t, c.ways, setup{})
			conn, host := b.connect()
			conn.Send([]byte(c.stream))
			b.requireRefused(conn, host)
			require.Equal(t, c.asked, b.asked)
			require.EqualValues(t, 1, b.counters().ProofsRefused)
			require.EqualValues(t, 1, b.counters().Ends[stats.EndUnproven])
		})
	}
}

func TestWhereEitherWayWillDoTheFirstByteTells(t *testing.T) {
	for _, stream := range []string{string(clientHello(t, "good.example")), request("good.example")} {
		b := newProving(t, policy.ProofTLS|policy.ProofHTTP, setup{})
		c, host := b.connect()
		c.Send([]byte(stream))
		require.Equal(t, stream, string(b.readSome(host, len(stream))))
	}
}

func TestWithoutANamePassesWhatTheRulesLeaveOpen(t *testing.T) {
	b := newProving(t, policy.ProofTLS, setup{})
	b.nameless = true
	c, host := b.connect()
	c.Send([]byte("SSH-2.0-x\r\n"))
	require.Equal(t, "SSH-2.0-x\r\n", string(b.readSome(host, 11)))
	c.Send([]byte("anything"))
	require.Equal(t, "anything", string(b.readSome(host, 8)))
	other, peer := b.connect()
	other.Send([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03")) // but not what cannot be relied on
	b.requireRefused(other, peer)
}

func TestASecondHelloForAnotherServerIsRefused(t *testing.T) {
	first, second := clientHello(t, "good.example"), clientHello(t, "bad.example")
	retry := append([]byte{22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3},
		0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
		0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c)
	retry = append(retry, make([]byte, 52)...)
	for _, answered := range []bool{true, false} {
		t.Run(fmt.Sprintf("asked for: %v", answered), func(t *testing.T) {
			b := newProving(t, policy.ProofTLS, setup{})
			c, host := b.connect()
			c.Send(first)
			b.readSome(host, len(first))
			if answered {
				_, err := host.Write(retry)
				require.NoError(t, err)
				c.WaitFor(len(retry))
			}
			c.Send([]byte{20, 3, 3, 0, 1, 1})
			b.readSome(host, 6)
			c.Send(second)
			b.requireRefused(c, host)
			require.Equal(t, []string{"good.example", "bad.example"}, b.asked)
		})
	}
	t.Run("for the same", func(t *testing.T) {
		b := newProving(t, policy.ProofTLS, setup{})
		c, host := b.connect()
		c.Send(first)
		b.readSome(host, len(first))
		_, err := host.Write(retry)
		require.NoError(t, err)
		c.WaitFor(len(retry))
		c.Send(first)
		requireSame(t, first, b.readSome(host, len(first)))
		c.Send([]byte("opaque"))
		require.Equal(t, "opaque", string(b.readSome(host, 6)))
	})
}

func TestEachRequestOfAConnectionIsJudged(t *testing.T) {
	b := newProving(t, policy.ProofHTTP, setup{})
	c, host := b.connect()
	first := "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 200000\r\n\r\n" + string(noise(200000))
	second := "PUT / HTTP/1.1\r\nHost: good2.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	c.Send([]byte(first + second + request("good3.example")))
	all := first + second + request("good3.example")
	requireSame(t, []byte(all), b.readSome(host, len(all)))
	c.Send([]byte(request("good4.example") + request("bad.example")))
	require.Equal(t, request("good4.example"), string(b.readSome(host, len(request("good4.example")))))
	b.Until("the guest is reset", func() bool { return c.State == porttest.WasReset })
	r := b.readAll(host)
	require.Empty(t, r.data)
	require.ErrorIs(t, r.err, unix.ECONNRESET)
	require.Equal(t, []string{"good.example", "good2.example", "good3.example", "good4.example", "bad.example"}, b.asked)
}

// upgrade is a request for websocket.
const upgrade = "GET /ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

func TestAWebsocketPassesOnceTheServerHasAgreed(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newProving(t, policy.ProofHTTP, setup{config: config})
		c, host := b.connect()
		c.Send([]byte(upgrade))
		b.readSome(host, len(upgrade))
		_, err := io.WriteString(host, "HTTP/1.1 101 Switching Protocols\r\n\r\nframe")
		require.NoError(t, err)
		c.WaitFor(41)
		require.Equal(t, "HTTP/1.1 101 Switching Protocols\r\n\r\nframe", string(c.Read()))
		c.Send([]byte(request("bad.example")))
		require.Equal(t, request("bad.example"), string(b.readSome(host, len(request("bad.example")))))
	})
}

func TestARequestIsNotHiddenBehindAnUpgrade(t *testing.T) {
	t.Run("that the server declines", func(t *testing.T) {
		b := newProving(t, policy.ProofHTTP, setup{})
		c, host := b.connect()
		c.Send([]byte(upgrade))
		b.readSome(host, len(upgrade))
		_, err := io.WriteString(host, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		require.NoError(t, err)
		c.WaitFor(38)
		c.Send([]byte(request("good2.example")))
		b.readSome(host, len(request("good2.example")))
		c.Send([]byte(request("bad.example")))
		b.requireRefused(c, host)
	})
	t.Run("that is not answered yet", func(t *testing.T) {
		b := newProving(t, policy.ProofHTTP, setup{})
		c, host := b.connect()
		c.Send([]byte(upgrade + request("good2.example")))
		b.Until("the guest is reset", func() bool { return c.State == porttest.WasReset })
		require.Equal(t, []string{"good.example"}, b.asked)
		require.LessOrEqual(t, len(b.readAll(host).data), len(upgrade))
	})
	t.Run("that comes later", func(t *testing.T) {
		b := newProving(t, policy.ProofHTTP, setup{})
		c, host := b.connect()
		c.Send([]byte(request("good2.example")))
		b.readSome(host, len(request("good2.example")))
		c.Send([]byte(upgrade))
		b.requireRefused(c, host)
	})
}

func TestAHelloThatDoesNotComeInTimeIsRefused(t *testing.T) {
	b := newProving(t, policy.ProofTLS, setup{})
	c, host := b.connect()
	b.Run(time.Minute) // without a byte there is nothing to wait for
	require.Equal(t, porttest.Open, c.State)
	hello := clientHello(t, "good.example")
	c.Send(hello[:100])
	b.Run(4900 * time.Millisecond)
	require.Equal(t, porttest.Open, c.State)
	require.Equal(t, 1, b.held())
	b.Run(200 * time.Millisecond)
	b.requireRefused(c, host)
	require.EqualValues(t, 1, b.counters().ProofsLate)
	require.Empty(t, b.asked)
}

func TestAGuestThatEndsBeforeItHasToldItsServer(t *testing.T) {
	t.Run("without a byte ends the peer's stream", func(t *testing.T) {
		b := newProving(t, policy.ProofTLS, setup{})
		c, host := b.connect()
		c.Close()
		r := b.readAll(host)
		require.NoError(t, r.err)
		require.Empty(t, r.data)
	})
	t.Run("in the middle is refused", func(t *testing.T) {
		b := newProving(t, policy.ProofTLS, setup{})
		c, host := b.connect()
		c.Send(clientHello(t, "good.example")[:100])
		c.Close()
		b.requireRefused(c, host)
		require.Zero(t, b.counters().ProofsLate, "at once, not when its time is over")
	})
	t.Run("by a reset leaves nothing", func(t *testing.T) {
		b := newProving(t, policy.ProofTLS, setup{})
		c, host := b.connect()
		c.Send(clientHello(t, "good.example")[:100])
		b.Settle()
		require.Equal(t, 1, b.held())
		c.Reset()
		r := b.readAll(host)
		require.Empty(t, r.data)
		require.ErrorIs(t, r.err, unix.ECONNRESET)
		require.Zero(t, b.held())
	})
}

func TestAPeerThatEndsWhileAConnectionIsHeld(t *testing.T) {
	b := newProving(t, policy.ProofTLS, setup{})
	c, host := b.connect()
	c.Send(clientHello(t, "good.example")[:100])
	b.Settle()
	require.NoError(t, host.SetLinger(0))
	require.NoError(t, host.Close())
	b.Until("the guest is reset", func() bool { return c.State == porttest.WasReset })
	require.Zero(t, b.held())
}

func TestAMarkOfUrgentDataHidesNothing(t *testing.T) {
	b := newProving(t, policy.ProofHTTP, setup{})
	c, host := b.connect()
	r := request("good.example")
	s := c.Segment(porttest.ACK|porttest.URG, []byte(r))
	s.Urgent = 24 // in the name: a server that takes the byte out of line would read another host
	c.SendNext(s)
	require.Equal(t, r, string(b.readSome(host, len(r))))
}

func TestTooManyThatHaveNotToldTheirServerPushEachOtherOut(t *testing.T) {
	b := newProving(t, policy.ProofTLS, setup{})
	_, most := nat.Held(b.port)
	part := clientHello(t, "good.example")[:10]
	var all []*porttest.TCP
	for range most + 2 {
		c, _ := b.connect()
		c.Send(part)
		b.Settle()
		b.Advance(time.Millisecond)
		all = append(all, c)
	}
	require.Equal(t, most, b.held())
	b.Until("the oldest are reset", func() bool { return all[0].State == porttest.WasReset && all[1].State == porttest.WasReset })
	require.Equal(t, porttest.Open, all[2].State)
	require.EqualValues(t, 2, b.counters().ProofsEvicted)
}

func TestASocketThatTakesAPartLosesAndDoublesNothing(t *testing.T) {
	b := newProving(t, policy.ProofHTTP, setup{config: func(c *nat.Config) {}})
	c, host := b.connect()
	require.NoError(t, host.SetReadBuffer(65536))
	var all []byte
	for i := range 400 {
		r := fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: good.example\r\nX: %s\r\n\r\n", i, strings.Repeat("x", 15000))
		all = append(all, r...)
	}
	c.Send(all)
	b.Settle()
	b.Run(time.Minute) // the time that the peer takes is not the guest's
	require.NotZero(t, c.Unsent(), "the host's peer does not read, so the guest cannot send all")
	requireSame(t, all, b.readSome(host, len(all)))
	require.Zero(t, b.held())
	c.Close()
	r := b.readAll(host)
	require.NoError(t, r.err)
	require.Empty(t, r.data)
	require.Zero(t, c.Shrinks)
}

// routesElsewhere opens sockets to the routing table of a namespace that has no addresses, so that those of this one are no host's.
func routesElsewhere(forNews bool) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with this function
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			fd, err = routesocket.Open(forNews)
		}
	}()
	<-done
	return fd, err
}

func TestARuleByNameHoldsConnectionsUntilTheyHaveToldTheirServer(t *testing.T) {
	if inNamespace(t) {
		return
	}
	address(t, up(t, "lo"), "198.51.100.1/32")
	l, err := net.Listen("tcp4", "198.51.100.1:443")
	require.NoError(t, err)
	rule, err := spec.ParseNameRule("bad.example", false)
	require.NoError(t, err)
	b := newBench(t, setup{config: func(c *nat.Config) { c.Rules, c.Routes = append(c.Rules, rule), routesElsewhere }})
	dial := func() (*porttest.TCP, net.Conn) {
		c := b.Connect(netip.MustParseAddrPort("198.51.100.1:443"))
		host, err := l.Accept()
		require.NoError(t, err)
		return c, host
	}
	c, host := dial()
	hello := clientHello(t, "good.example")
	c.Send(hello[:100])
	b.Settle()
	n, _ := nat.Held(b.port)
	require.Equal(t, 1, n)
	c.Send(hello[100:])
	requireSame(t, hello, b.readSome(host, len(hello)))
	c, host = dial()
	c.Send(clientHello(t, "bad.example"))
	b.Until("the guest is reset", func() bool { return c.State == porttest.WasReset })
	r := b.readAll(host)
	require.Empty(t, r.data)
	require.ErrorIs(t, r.err, unix.ECONNRESET)
	require.EqualValues(t, 1, b.port.Counters().Denied)
}
