package nat_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// mostShut is how long a gate stays shut after the guest's port has begun to answer (T12).
const mostShut = 1100 * time.Millisecond

// newGate is a bench with a gated forward from host to port 80 of the guest.
func newGate(t *testing.T) (b *bench, host string) {
	t.Helper()
	host = porttest.FreePort(t).String()
	b = newBench(t, setup{config: withForward(t, "gate:"+host+":80")})
	b.Resolve()
	return b, host
}

// opened waits until the gate is open, and returns for how long.
func (b *bench) opened() time.Duration {
	b.t.Helper()
	start, before := b.Now(), b.gates()
	b.Skip("the gate is open", func() bool { return b.gates() > before })
	return time.Duration(b.Now() - start)
}

// gates counts gates that are open.
func (b *bench) gates() int {
	c := b.port.Counters()
	return int(c.GatesOpened) - int(c.GatesShut)
}

func requireRefused(t *testing.T, host string) {
	t.Helper()
	c, err := net.DialTimeout("tcp4", host, time.Minute)
	if err == nil {
		_ = c.Close()
	}
	require.ErrorIs(t, err, unix.ECONNREFUSED)
}

func requireConnects(t *testing.T, host string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp4", host, time.Minute)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func TestT12AGateRefusesAsTheGuestDoes(t *testing.T) {
	b, host := newGate(t)
	requireRefused(t, host)
	b.Run(10 * time.Second)
	requireRefused(t, host)

	l := b.Listen(80)
	require.LessOrEqual(t, b.opened(), mostShut)
	client := requireConnects(t, host)
	c := l.Accept()
	c.Send([]byte("hello"))
	require.Equal(t, "hello", string(b.readSome(client, 5)))

	l.Close() // the connection lives on
	require.ErrorContains(t, b.readAll(requireConnects(t, host)).err, "connection reset", "the first client finds it out")
	requireRefused(t, host)
	c.Send([]byte("still here"))
	require.Equal(t, "still here", string(b.readSome(client, 10)))

	l = b.Listen(80)
	require.LessOrEqual(t, b.opened(), mostShut)
	requireConnects(t, host)
	l.Accept()
}

func TestT12KnockingDoesNotWakeTheGuestsProgram(t *testing.T) {
	b, _ := newGate(t)
	l := b.Listen(80)
	b.opened()
	b.Frames()
	b.Run(time.Minute)
	require.Empty(t, l.Pending(), "no handshake is completed")
	require.Equal(t, 12, resets(b.Frames()), "one for each knock in five seconds, which frees its place in the backlog")
}

func TestT12AServiceThatEndsShutsItsGate(t *testing.T) {
	for name, end := range map[string]func(c *porttest.TCP){
		"while nobody is connected": func(*porttest.TCP) {},
		"with a FIN":                (*porttest.TCP).Close,
		"with a reset":              (*porttest.TCP).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			b, host := newGate(t)
			l := b.Listen(80)
			b.opened()
			requireConnects(t, host)
			c := l.Accept()
			b.Run(time.Second)
			l.Close()
			start := b.Now()
			end(c)
			b.Skip("the gate is shut", func() bool { return b.gates() == 0 })
			if name != "while nobody is connected" {
				require.Zero(t, b.Now()-start, "at once")
			}
			require.LessOrEqual(t, time.Duration(b.Now()-start), 5*time.Second)
			requireRefused(t, host)
		})
	}
}

func TestT12AFullBacklogDoesNotShutAGate(t *testing.T) {
	b, host := newGate(t)
	l := b.Listen(80)
	b.opened()
	l.Mute = true
	b.Run(20 * time.Second)
	requireConnects(t, host)
	b.Settle()
	l.Mute = false
	b.Skip("the client is let in", func() bool { return len(l.Pending()) == 1 })
}

func TestT12ForwardsToOnePortShareAGate(t *testing.T) {
	first, second, other := porttest.FreePort(t), porttest.FreePort(t), porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		for _, text := range []string{first.String() + ":80", second.String() + ":80", other.String() + ":81"} {
			f, err := spec.ParseForward("gate:" + text)
			require.NoError(t, err)
			c.Forwards = append(c.Forwards, f)
		}
	}})
	b.Resolve()
	b.Listen(80)
	b.opened()
	requireConnects(t, first.String())
	requireConnects(t, second.String())
	requireRefused(t, other.String())
}

func TestT13AGateRefusesWhileTheGuestIsNotThere(t *testing.T) {
	b, host := newGate(t)
	b.Listen(80)
	b.opened()
	b.port.RingsChanged(netbackend.RingState{Connected: true}) // the guest's driver has stopped
	requireRefused(t, host)
	b.Run(time.Minute)
	requireRefused(t, host)
	b.port.RingsChanged(netbackend.RingState{Connected: true, Transmit: true, Receive: true, Restarted: true})
	b.Turn()
	b.Settle()
	requireConnects(t, host)

	b.Disconnect()
	requireRefused(t, host)
}

func TestTheHostsPortOfAGateStaysOurs(t *testing.T) {
	b, host := newGate(t)
	steal := func() {
		l, err := net.Listen("tcp4", host) // which sets SO_REUSEADDR
		if err == nil {
			_ = l.Close()
		}
		require.ErrorIs(t, err, unix.EADDRINUSE)
	}
	steal()
	l := b.Listen(80)
	b.opened()
	steal()
	client := requireConnects(t, host)
	l.Accept().Close()
	require.NoError(t, b.readAll(client).err)
	require.NoError(t, client.Close()) // the kernel remembers the connection for a while
	l.Close()
	b.Skip("the gate is shut", func() bool { return b.gates() == 0 })
	steal()
	b.Listen(80)
	b.opened()
	requireConnects(t, host)
}

func TestOnlyPortsOfTCPHaveGates(t *testing.T) {
	for text, want := range map[string]string{
		"gate:udp:5353:5353":    "only TCP ports can have gates",
		"gate:unix:/tmp/a.s:80": "only ports can have gates",
		"gate:":                 "a host port and a guest port are needed",
	} {
		_, err := spec.ParseForward(text)
		require.ErrorContains(t, err, want, text)
	}
	f, err := spec.ParseForward("gate:8000-8009:80-89")
	require.NoError(t, err)
	require.True(t, f.Gate)
	require.Equal(t, "gate:tcp:127.0.0.1:8000-8009:80-89", f.String())
	again, err := spec.ParseForward(f.String())
	require.NoError(t, err)
	require.Equal(t, f, again)
}
