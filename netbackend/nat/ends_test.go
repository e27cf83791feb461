package nat_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// endings returns the causes that were counted, without those that were not.
func (b *bench) endings() map[string]int {
	counted := map[string]int{}
	for name, n := range b.port.Counters().Ends.All() {
		if n != 0 {
			counted[name] = int(n)
		}
	}
	return counted
}

func TestEachResetOfAConnectionHasACause(t *testing.T) {
	for name, happens := range map[string]struct {
		setup setup
		do    func(b *bench, dial func() *net.TCPConn)
	}{
		"ended_by_guest": {do: func(b *bench, _ func() *net.TCPConn) {
			c, host := b.connect()
			c.Reset()
			require.ErrorContains(b.t, b.readAll(host).err, "connection reset")
		}},
		"ended_refused_by_guest": {do: func(b *bench, dial func() *net.TCPConn) {
			require.ErrorContains(b.t, b.readAll(dial()).err, "connection reset")
		}},
		"ended_replaced_by_guest": {do: func(b *bench, _ func() *net.TCPConn) {
			c, _ := b.connect(porttest.TCPOptions{LocalPort: 2000})
			c.Forget()
			b.connect(porttest.TCPOptions{LocalPort: 2000, ISS: 77})
		}},
		"ended_unknown_to_us": {do: func(b *bench, _ func() *net.TCPConn) {
			b.Resolve()
			b.SendSegment(porttest.Segment{
				Src: netip.AddrPortFrom(b.IP, 3000), Dst: b.server, Flags: porttest.ACK, Seq: 1, Ack: 1, Window: 1000,
			})
			b.Settle()
		}},
		"ended_unanswered_by_guest": {do: func(b *bench, dial func() *net.TCPConn) {
			b.Deaf = true
			client := dial()
			b.Skip("the call is given up", func() bool { return b.port.Counters().Timeouts == 1 })
			require.ErrorContains(b.t, b.readAll(client).err, "connection reset")
		}},
		"ended_unacked_by_guest": {do: func(b *bench, _ func() *net.TCPConn) {
			c, host := b.connect()
			c.Silent = true
			_, err := host.Write([]byte("lost"))
			require.NoError(b.t, err)
			b.Skip("the guest is given up", func() bool { return b.port.Counters().Timeouts == 1 })
		}},
		"ended_by_host": {do: func(b *bench, _ func() *net.TCPConn) {
			c, host := b.connect()
			require.NoError(b.t, host.SetLinger(0))
			require.NoError(b.t, host.Close())
			b.Until("the guest is told", func() bool { return c.State == porttest.WasReset })
		}},
		"ended_connect_failed": {setup: setup{closed: true}, do: func(b *bench, _ func() *net.TCPConn) {
			c := b.Dial(b.server)
			b.Until("the guest is told", func() bool { return c.State == porttest.Refused })
		}},
		"ended_guest_gone": {do: func(b *bench, _ func() *net.TCPConn) {
			_, host := b.connect()
			b.Settle()
			b.Disconnect()
			require.ErrorContains(b.t, b.readAll(host).err, "connection reset")
		}},
		"ended_no_guest": {do: func(b *bench, dial func() *net.TCPConn) {
			b.Disconnect()
			require.ErrorContains(b.t, b.readAll(dial()).err, "connection reset")
		}},
		"ended_with_engine": {do: func(b *bench, _ func() *net.TCPConn) {
			b.connect()
			b.Stop()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b, dial := newForward(t, happens.setup)
			happens.do(b, dial)
			require.Equal(t, map[string]int{name: 1}, b.endings())
		})
	}
}

// A window that is closed keeps the engine from reading what the host's socket has to tell; the error is told all the same.
func TestAHostThatResetsAFlowThatStandsStillIsTheCause(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect(porttest.TCPOptions{Window: 1000})
		c.Window = 0
		_, err := host.Write(noise(100_000))
		require.NoError(t, err)
		b.Until("the window is full", func() bool { return len(c.Received()) == 1000 })
		require.NoError(t, host.SetLinger(0))
		require.NoError(t, host.Close())
		b.Until("the guest is told", func() bool { return c.State == porttest.WasReset })
		require.Equal(t, map[string]int{"ended_by_host": 1}, b.endings())
	})
}

func TestConnectionsThatEndInOrderHaveNoCause(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial()
	c := l.Accept()
	require.NoError(t, client.CloseWrite())
	b.Until("the guest has seen the end", c.Ended)
	c.Close()
	require.NoError(t, b.readAll(client).err)
	b.Settle()
	require.Empty(t, b.port.Snapshot(b.Now()).Flows)
	require.Empty(t, b.endings())
}
