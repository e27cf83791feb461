package nat_test

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/netbackend/worker"
)

// callClient is the client of a Call, and what whoever has called was told.
type callClient struct {
	net.Conn
	kept     net.Conn // the other end, which whoever calls keeps until the guest has answered
	accepted bool
	failures []nat.CallFailure
}

// kinds are the sockets that clients may have.
var kinds = map[string]func(t *testing.T) (client, served net.Conn){
	"unix": func(t *testing.T) (net.Conn, net.Conn) {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		require.NoError(t, err)
		return pairOf(t, l)
	},
	"tcp": func(t *testing.T) (net.Conn, net.Conn) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		return pairOf(t, l)
	},
}

// pairOf returns both ends of a connection to l, which it closes.
func pairOf(t *testing.T, l net.Listener) (client, served net.Conn) {
	t.Helper()
	defer l.Close()
	client, err := net.Dial(l.Addr().Network(), l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	served, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = served.Close() })
	return client, served
}

// eachSocket runs f with calls of clients of either kind, with and without the kernel's peek offset.
func eachSocket(t *testing.T, f func(t *testing.T, b *bench, kind string)) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for kind := range kinds {
			t.Run(kind, func(t *testing.T) {
				b := newBench(t, setup{config: config})
				b.Resolve()
				f(t, b, kind)
			})
		}
	})
}

// place makes a Call to an address in the guest.
func (b *bench) place(kind, to, greeting string) *callClient {
	b.t.Helper()
	x := new(callClient)
	x.Conn, x.kept = kinds[kind](b.t)
	b.port.Call(&nat.Call{
		Socket: duplicate(b.t, x.kept), UnixSocket: kind == "unix", To: netip.MustParseAddrPort(to), Greeting: []byte(greeting),
		Accepted: func() { x.accepted = true },
		Failed:   func(f nat.CallFailure) { x.failures = append(x.failures, f) },
	})
	b.Turn()
	return x
}

// duplicate returns a descriptor of its own of a connection.
func duplicate(t *testing.T, c net.Conn) (fd int) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(of uintptr) { fd, failed = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }))
	require.NoError(t, failed)
	return fd
}

// failure waits for the end of a call, which is told once, and to nobody but who has called: the client can still be told.
func (b *bench) failure(x *callClient) nat.CallFailure {
	b.t.Helper()
	b.Skip("the caller is told", func() bool { return len(x.failures) > 0 })
	b.Settle()
	require.Len(b.t, x.failures, 1)
	require.False(b.t, x.accepted)
	_, err := x.kept.Write([]byte("sorry"))
	require.NoError(b.t, err)
	require.NoError(b.t, x.kept.Close())
	got := b.readAll(x.Conn)
	require.NoError(b.t, got.err)
	require.Equal(b.t, "sorry", string(got.data))
	b.Settle()
	require.Empty(b.t, b.port.Snapshot(b.Now()).Flows)
	return x.failures[0]
}

func TestACallIsGreetedAndPassedOnBothWays(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bench, kind string) {
		guest := b.Listen(80)
		x := b.place(kind, "10.0.2.15:80", "hello\n")
		_, err := x.Write([]byte("early"))
		require.NoError(t, err)
		require.Equal(t, "calling", b.onlyFlow().State)
		c := guest.Accept()
		require.Equal(t, "10.0.2.2", c.Remote.Addr().String(), "the client is seen as the gateway")
		up, down := noise(3<<20), noise(2<<20)
		c.Send(down)
		require.Equal(t, "hello\n", string(b.readSome(x, 6)), "before anything of the guest")
		require.True(t, x.accepted)
		require.NoError(t, x.kept.Close(), "the engine has its own")
		requireSame(t, down, b.readSome(x, len(down)))
		go func() { _, _ = x.Write(up) }()
		c.WaitFor(len(up) + 5)
		requireSame(t, append([]byte("early"), up...), c.Received())
		want := map[string]nat.Origin{"unix": nat.OriginConnect, "tcp": nat.OriginSOCKS}[kind]
		require.Equal(t, want, b.onlyFlow().By)
		require.True(t, b.onlyFlow().Inbound)

		require.NoError(t, x.Conn.(interface{ CloseWrite() error }).CloseWrite())
		b.Until("the guest has seen the end", c.Ended)
		c.Send(down[:1000])
		c.Close()
		got := b.readAll(x)
		require.NoError(t, got.err)
		require.Equal(t, down[:1000], got.data, "a half-closed connection goes on the other way")
		b.Settle()
		require.Empty(t, b.port.Snapshot(b.Now()).Flows)
		require.Zero(t, b.Sockets())
		require.Empty(t, x.failures)
		require.EqualValues(t, 1, b.port.Counters().Calls)
	})
}

func TestACallTellsWhyThereIsNoConnection(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bench, kind string) {
		refused := b.failure(b.place(kind, "10.0.2.15:81", "hello"))
		require.Equal(t, nat.CallFailure{Cause: stats.EndRefused, Located: true}, refused)
		require.EqualValues(t, 1, b.port.Counters().Ends[stats.EndRefused])

		nobody := b.failure(b.place(kind, "10.0.2.99:80", "hello"))
		require.Equal(t, nat.CallFailure{Cause: stats.EndUnanswered}, nobody)

		b.Deaf = true
		began := b.Now()
		silent := b.failure(b.place(kind, "10.0.2.15:80", "hello"))
		require.Equal(t, nat.CallFailure{Cause: stats.EndUnanswered, Located: true}, silent)
		require.Less(t, b.Now()-began, int64(40*time.Second), "a client waits, so the engine gives up sooner than with a forward")
		require.Empty(t, b.Notices(), "it is no forward that leads nowhere")

		killed := b.place(kind, "10.0.2.15:80", "hello")
		n, _ := b.port.EndFlows(0, &nat.FlowFilter{State: "calling"})
		require.Equal(t, 1, n)
		b.Turn()
		require.Equal(t, stats.EndKilled, b.failure(killed).Cause)

		b.Disconnect()
		require.Equal(t, stats.EndNoGuest, b.failure(b.place(kind, "10.0.2.15:80", "hello")).Cause)
	})
}

func TestACallEndsWithTheEngine(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bench, kind string) {
		b.Deaf = true
		begun := b.place(kind, "10.0.2.15:80", "hello")
		var waits []nat.CallFailure
		other := func() *nat.Call {
			fd, err := unix.Open("/dev/null", unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			return &nat.Call{Socket: fd, To: netip.MustParseAddrPort("10.0.2.15:80"), Failed: func(f nat.CallFailure) { waits = append(waits, f) }}
		}
		b.port.Call(other())
		b.Stop()
		b.port.Call(other())
		require.Equal(t, []nat.CallFailure{{Cause: stats.EndClosed, Located: true}}, begun.failures)
		require.Equal(t, []nat.CallFailure{{Cause: stats.EndClosed}, {Cause: stats.EndClosed}}, waits, "one before the engine was closed, one after")
	})
}

// A client who has gone before the guest accepts leaves nothing behind.
func TestAClientThatIsGoneWhenTheGuestAccepts(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bench, kind string) {
		b.Listen(80)
		x := b.place(kind, "10.0.2.15:80", "hello")
		require.NoError(t, x.Conn.Close())
		b.Until("the guest accepts", func() bool { return x.accepted })
		require.NoError(t, x.kept.Close())
		b.Until("the connection is over", func() bool { return len(b.port.Snapshot(b.Now()).Flows) == 0 || b.onlyFlow().State == "host-closed" })
		require.Empty(t, x.failures)
	})
}

// Clients that nobody answers are bounded as those of forwards are, and the oldest is told that it had to go.
func TestTooManyCallsTakeThePlaceOfEachOther(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows = 8 }})
	b.Resolve()
	b.Deaf = true
	first := b.place("unix", "10.0.2.15:80", "hello")
	b.place("unix", "10.0.2.15:80", "hello")
	require.Empty(t, first.failures)
	b.place("unix", "10.0.2.15:80", "hello")
	b.Turn()
	require.Equal(t, []nat.CallFailure{{Cause: stats.EndEvicted, Located: true}}, first.failures)
	require.EqualValues(t, 1, b.port.Counters().CallsEvicted)
}

func TestWhereACallMayLead(t *testing.T) {
	c := nat.DefaultConfig()
	all, err := c.ForGuests(2)
	require.NoError(t, err)
	for to, says := range map[string]string{
		"10.0.2.15:80":          "",
		"10.0.2.200:22":         "",
		"[fd00:10:0:2::77]:22":  "",
		"10.0.2.16:80":          "10.0.2.16 is the address of another guest; name that one",
		"10.0.2.2:80":           "10.0.2.2 is no guest's address",
		"[fd00:10:0:2::3]:53":   "is no guest's address",
		"192.0.2.1:80":          "192.0.2.1 is no guest's address in the network 10.0.2.0/24 or fd00:10:0:2::/64",
		"10.0.2.15:0":           "want an address and a port from 1 to 65535",
		"[::ffff:10.0.2.15]:80": "is no guest's address",
	} {
		err := all[0].CheckCall(netip.MustParseAddrPort(to))
		if says == "" {
			require.NoError(t, err, to)
			continue
		}
		require.ErrorContains(t, err, says, to)
	}
	require.Error(t, c.CheckCall(netip.AddrPort{}))
}

// Calls are asked for at the first queue pair, and are those of one that runs.
func TestCallsFollowTheQueuesThatRun(t *testing.T) {
	b, h := newQueues(t, 3)
	l := b.Listen(80)
	h.eachLowest(func() {
		client, served := kinds["unix"](t)
		done := make(chan string, 1)
		require.NoError(t, h.device.Do(0, func(w *worker.Thread) {
			w.Port().(*nat.Port).Call(&nat.Call{
				Socket: duplicate(t, served), UnixSocket: true, To: netip.MustParseAddrPort("10.0.2.15:80"), Greeting: []byte("hello"),
				Accepted: func() { done <- "accepted" }, Failed: func(f nat.CallFailure) { done <- fmt.Sprint(f) },
			})
		}))
		require.Equal(t, "accepted", await(b, "the caller is told", func() string { return <-done }))
		require.NoError(t, served.Close())
		c := l.Accept()
		c.Send(noise(7000))
		c.Close()
		requireSame(t, append([]byte("hello"), noise(7000)...), b.readAll(client).data)
	})
}
