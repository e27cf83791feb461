package nat_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/worker"
)

// holdOnQueues makes a connection that must tell its server, of a guest with three queue pairs.
func holdOnQueues(t *testing.T, b *bench, h *hopper) (*porttest.TCP, *net.TCPConn) {
	t.Helper()
	c := b.Connect(b.server)
	host, err := b.listen.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	held := 0
	for held == 0 { // the pair that has it may change meanwhile
		for i, p := range h.ports {
			require.NoError(t, h.device.Do(i, func(*worker.Thread) { held += nat.Hold(p, c.Local.Port(), policy.ProofTLS) }))
		}
	}
	return c, host
}

// What is kept of a connection goes with it to another queue pair, and so does the time in which it has to tell its server.
func TestAConnectionThatIsHeldMovesBetweenQueues(t *testing.T) {
	b, h := newQueues(t, 3)
	for i, p := range h.ports {
		require.NoError(t, h.device.Do(i, func(*worker.Thread) {
			nat.Prove(p, func(name string, _ policy.Proof) bool { return strings.HasPrefix(name, "good") })
		}))
	}
	held := func() (n int) {
		require.NoError(t, h.device.Do(0, func(*worker.Thread) { n, _ = nat.Held(h.ports[0]) }))
		return n
	}
	hop := func(c *porttest.TCP) {
		before := h.moved()
		b.Until("the connection is elsewhere", func() bool { c.SendKeepalive(); return h.moved() > before })
	}
	t.Run("and passes there", func(t *testing.T) {
		c, host := holdOnQueues(t, b, h)
		hello := clientHello(t, "good.example")
		for at := 0; at < len(hello); at += 100 {
			c.Send(hello[at:min(at+100, len(hello))])
			if at+100 < len(hello) {
				b.Until("that is taken", func() bool { return c.Unsent() == 0 })
				require.Equal(t, 1, held())
				hop(c)
			}
		}
		requireSame(t, hello, b.readSome(host, len(hello)))
		require.Zero(t, held())
	})
	t.Run("and is refused there", func(t *testing.T) {
		c, host := holdOnQueues(t, b, h)
		hello := clientHello(t, "evil.example")
		c.Send(hello[:100])
		b.Until("that is taken", func() bool { return c.Unsent() == 0 })
		hop(c)
		c.Send(hello[100:])
		requireRefusedOnQueues(t, b, c, host)
	})
}

// The pair that a connection has come to looks at its time, though it has looked at no connection before.
func TestTheTimeOfAConnectionThatIsHeldRunsOutOnAnotherQueue(t *testing.T) {
	b, h := newQueues(t, 2)
	c, host := holdOnQueues(t, b, h)
	c.Send(clientHello(t, "good.example")[:100])
	b.Until("that is taken", func() bool { return c.Unsent() == 0 })
	first, before := h.at[c.Local.Port()], h.moved()
	b.Until("the connection is elsewhere", func() bool {
		c.SendKeepalive()
		return h.moved() > before && h.at[c.Local.Port()] != first
	})
	h.hops = 0 // it stays there
	h.skip(4 * time.Second)
	b.Run(100 * time.Millisecond)
	require.NotEqual(t, porttest.WasReset, c.State, "it has a second left")
	h.skip(2 * time.Second)
	requireRefusedOnQueues(t, b, c, host)
	late := uint64(0)
	for _, counters := range h.counters() {
		late += counters.ProofsLate
	}
	require.EqualValues(t, 1, late)
}

func requireRefusedOnQueues(t *testing.T, b *bench, c *porttest.TCP, host *net.TCPConn) {
	t.Helper()
	b.Until("the guest is reset", func() bool { return c.State == porttest.WasReset })
	r := b.readAll(host)
	require.Empty(t, r.data)
	require.ErrorIs(t, r.err, unix.ECONNRESET)
}
