package nat_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// The tests in files named trow_* are the rules T1 to T62 of the engine. The guest is package porttest, the host is
// real sockets on the loopback, opened by Config.AllowHost.

// bench is one engine with a guest, and a port of the host that the guest may use.
type bench struct {
	*porttest.Guest
	t      *testing.T
	port   *nat.Port
	listen *net.TCPListener
	server netip.AddrPort // as the guest names it
}

// setup is what a test changes of the default.
type setup struct {
	guest  porttest.Options
	config func(*nat.Config)
	closed bool // nobody listens on the host's port
}

func newBench(t *testing.T, s setup) *bench {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(porttest.FreePort(t)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	if s.closed {
		require.NoError(t, l.Close())
	}
	cfg := nat.DefaultConfig()
	cfg.AllowHost = []spec.HostService{{Proto: unix.IPPROTO_TCP, Port: port}, {Proto: unix.IPPROTO_UDP, Port: port}}
	cfg.ResolvConf = ""
	if s.guest.MTU != 0 {
		cfg.MTU = s.guest.MTU
	}
	if s.config != nil {
		s.config(&cfg)
	}
	engine, err := nat.New(cfg)
	require.NoError(t, err)
	b := &bench{
		Guest: porttest.New(t, engine, s.guest), t: t, port: engine, listen: l,
		server: netip.AddrPortFrom(cfg.Gateway, port),
	}
	t.Cleanup(b.requireStates)
	return b
}

// requireStates finds as many flows of each state as the engine has counted. It is the end of each test.
func (b *bench) requireStates() {
	found := map[string]int{}
	for _, f := range b.port.Snapshot(b.Now()).Flows {
		found[strings.Fields(f.State)[0]]++ // without why it stands still
	}
	for _, s := range b.port.States() {
		require.Equal(b.t, found[s.State], s.Flows, s.State)
	}
}

// forward is a bench with a forward from a port of the host to port 80 of the guest; dial connects to it.
func newForward(t *testing.T, s setup) (b *bench, dial func() *net.TCPConn) {
	t.Helper()
	host := porttest.FreePort(t).String()
	inner := s.config
	s.config = func(c *nat.Config) {
		f, err := spec.ParseForward(host + ":80")
		require.NoError(t, err)
		c.Forwards = append(c.Forwards, f)
		if inner != nil {
			inner(c)
		}
	}
	b = newBench(t, s)
	b.Resolve()
	return b, func() *net.TCPConn {
		c, err := net.Dial("tcp4", host) // the kernel completes it before the engine accepts
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.TCPConn)
	}
}

// await runs f, which may block on a socket of the host, while guest and engine go on.
func await[T any](b *bench, what string, f func() T) T {
	b.t.Helper()
	done := make(chan T, 1)
	go func() { done <- f() }()
	var v T
	b.Until(what, func() bool {
		select {
		case v = <-done:
			return true
		default:
			return false
		}
	})
	return v
}

// connect makes a connection of the guest to the host and returns both ends.
func (b *bench) connect(opt ...porttest.TCPOptions) (*porttest.TCP, *net.TCPConn) {
	b.t.Helper()
	c := b.Connect(b.server, opt...)
	require.NoError(b.t, b.listen.SetDeadline(time.Now().Add(time.Minute)))
	host, err := b.listen.AcceptTCP()
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = host.Close() })
	return c, host
}

// received is what a reader of the host got, and how it ended.
type received struct {
	data []byte
	err  error // nil for EOF
}

// readAll reads from c until it ends.
func (b *bench) readAll(c net.Conn) received {
	b.t.Helper()
	return await(b, "the host has read everything", func() received {
		data, err := io.ReadAll(c)
		return received{data, err}
	})
}

// readSome reads exactly n bytes.
func (b *bench) readSome(c net.Conn, n int) []byte {
	b.t.Helper()
	r := await(b, "the host has read "+strconv.Itoa(n)+" bytes", func() received {
		data := make([]byte, n)
		_, err := io.ReadFull(c, data)
		return received{data, err}
	})
	require.NoError(b.t, r.err)
	return r.data
}

// noise returns n bytes that tell loss, repetition and reordering.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// requireSame compares without printing megabytes.
func requireSame(t *testing.T, want, got []byte) {
	t.Helper()
	require.Len(t, got, len(want))
	require.True(t, bytes.Equal(want, got), "the data differs")
}

// lastSegment returns the newest segment of c.
func lastSegment(c *porttest.TCP) porttest.Segment { return c.Segments[len(c.Segments)-1] }

// eachKernel runs f with and without the kernel's peek offset.
func eachKernel(t *testing.T, f func(t *testing.T, config func(*nat.Config))) {
	t.Run("peek offset", func(t *testing.T) {
		if !hostcaps.HasPeekOffset() {
			t.Skip("this kernel has no peek offset for TCP")
		}
		f(t, func(c *nat.Config) { c.PeekOffset = true })
	})
	t.Run("no peek offset", func(t *testing.T) {
		f(t, func(c *nat.Config) { c.PeekOffset = false })
	})
}

// kernelSockets returns the rows of the kernel's table of TCP sockets, split into columns: 1 is the local address and 2 the
// remote one in the machine's byte order, 3 the state, 5 the timer (proc_net_tcp.rst of the kernel's documentation).
func kernelSockets(t *testing.T) (rows [][]string) {
	t.Helper()
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	require.NoError(t, err)
	for line := range strings.Lines(string(table)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

// withForward adds the forward that a text describes to a configuration.
func withForward(t testing.TB, text string) func(*nat.Config) {
	return func(c *nat.Config) {
		f, err := spec.ParseForward(text)
		require.NoError(t, err)
		c.Forwards = append(c.Forwards, f)
	}
}
