package nat_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// withKernelMemory is a setup with a budget of so many bytes.
func withKernelMemory(n int64) setup {
	return setup{config: func(c *nat.Config) { c.Kernel.Memory = n }}
}

// kernelMemory returns how many KiB of the kernel's memory count as the guest's.
func (b *bench) kernelMemory() int { return int(nat.KernelMemoryOf(b.port) >> 10) }

// look lets the engine look at all sockets.
func (b *bench) look() {
	for range 3 {
		b.Advance(300 * time.Millisecond)
		b.Turn()
	}
}

// undelivered returns how many bytes of n that were written to c the other end's kernel holds, all of which it has not read.
func undelivered(t *testing.T, c *net.TCPConn, n int) int {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		require.NoError(t, err)
		n -= queued
	}))
	return n
}

// fill writes to c until its buffers are full, and returns how many bytes.
func fill(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	data := make([]byte, 64<<10)
	require.NoError(t, raw.Control(func(fd uintptr) {
		for err == nil {
			var some int
			if some, err = unix.Write(int(fd), data); err == nil {
				n += some
			}
		}
	}))
	require.ErrorIs(t, err, unix.EAGAIN)
	return n
}

// fillSome writes to c what certainly fits its buffers.
func fillSome(t *testing.T, c *net.TCPConn) {
	t.Helper()
	_, err := c.Write(make([]byte, 32<<10))
	require.NoError(t, err)
}

func TestWhatAGuestDoesNotReadIsBoundedInSum(t *testing.T) {
	const connections, budget, least = 32, 512 << 10, 16 << 10
	b := newBench(t, withKernelMemory(budget))
	sum := 0
	for range connections {
		c, host := b.connect()
		c.ManualAck = true // it reads nothing
		n := fill(t, host)
		b.Settle()
		b.look()
		sum += undelivered(t, host, n)
	}
	require.NotZero(t, b.port.Counters().BuffersBounded)
	require.Less(t, sum, budget+connections*least)
	require.NotEmpty(t, b.Notices())
}

func TestTheBuffersOfAGuestThatReadsAreTheKernelsChoice(t *testing.T) {
	b := newBench(t, withKernelMemory(40<<20))
	idle, host := b.connect()
	idle.ManualAck = true
	fill(t, host)
	b.Settle()
	for range 150 { // it is looked at again and again, and holds no more by that
		b.look()
	}
	for range 4 {
		c, host := b.connect()
		b.download(c, host, 1<<20)
		b.look()
	}
	require.Zero(t, b.port.Counters().BuffersBounded)
}

func TestWhatTheKernelHoldsIsForgottenWithTheSocket(t *testing.T) {
	for name, end := range map[string]func(b *bench, c *porttest.TCP, host *net.TCPConn){
		"the guest resets":      func(_ *bench, c *porttest.TCP, _ *net.TCPConn) { c.Reset() },
		"the host resets":       func(_ *bench, _ *porttest.TCP, host *net.TCPConn) { _ = host.SetLinger(0); _ = host.Close() },
		"the front end is gone": func(b *bench, _ *porttest.TCP, _ *net.TCPConn) { b.Disconnect() },
		"the guest reads at last": func(_ *bench, c *porttest.TCP, _ *net.TCPConn) {
			c.ManualAck = false
			c.SendAck()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, withKernelMemory(64<<20))
			c, host := b.connect()
			c.ManualAck = true
			fillSome(t, host)
			b.Settle()
			b.look()
			require.NotZero(t, b.kernelMemory())
			end(b, c, host)
			b.Until("it counts no more", func() bool {
				b.look()
				return b.kernelMemory() == 0
			})
		})
	}
}

// flood sends more from the host than a socket takes.
func (b *udpBench) flood(to netip.AddrPort) {
	b.t.Helper()
	for range 200 {
		_, err := b.host.WriteToUDPAddrPort(make([]byte, 1000), to)
		require.NoError(b.t, err)
	}
	b.Turn()
}

// Datagrams that the guest does not take wait in sockets of their own, or in those of mappings and forwards.
func TestDatagramsThatTheGuestDoesNotTakeCountAndAreBounded(t *testing.T) {
	const budget = 256 << 10
	forward := porttest.FreePort(t)
	config := func(mapped bool) setup {
		return setup{config: func(c *nat.Config) {
			c.Kernel.Memory, c.EndpointIndependent = budget, mapped
			f, err := spec.ParseForward("udp:" + forward.String() + ":80")
			require.NoError(t, err)
			c.Forwards = append(c.Forwards, f)
		}}
	}
	for name, c := range map[string]struct{ mapped, forward bool }{"association": {}, "mapping": {mapped: true}, "forward": {forward: true}} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench(t, config(c.mapped))
			to := forward
			if !c.forward {
				to = b.answered(2000, []byte("x"))
			}
			b.stop(paused)
			b.flood(to)
			b.look()
			full := b.kernelMemory()
			require.Greater(t, full, budget>>11, "more than half")
			require.NotZero(t, b.port.Counters().BuffersBounded)
			b.flood(to)
			b.look()
			require.LessOrEqual(t, b.kernelMemory(), full)
			b.goOn(false)
			b.Until("the guest has them", func() bool {
				b.look()
				return b.kernelMemory() == 0
			})
		})
	}
}

func TestSocketsThatAreMadeUnderPressureBeginWithSmallBuffers(t *testing.T) {
	for name, mapped := range map[string]bool{"association": false, "mapping": true} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench(t, setup{config: func(c *nat.Config) { c.Kernel.Memory, c.EndpointIndependent = 64<<10, mapped }})
			c, host := b.connect()
			c.ManualAck = true
			fill(t, host)
			b.Settle()
			b.look()
			before := b.kernelMemory()
			require.Greater(t, before, 32)
			to := b.answered(2000, []byte("x"))
			b.stop(paused)
			b.flood(to) // before anybody looks
			b.look()
			require.Less(t, b.kernelMemory(), before+32)
		})
	}
}

// A flow that goes to another queue pair takes its part with it, and every pair looks at what is its own.
func TestWhatTheKernelHoldsMovesWithTheFlow(t *testing.T) {
	b, h := newQueues(t, 2)
	c, host := b.connect()
	c.ManualAck = true
	fillSome(t, host)
	b.Settle()
	before := 0
	b.Until("it is looked at", func() bool {
		b.look()
		before = b.kernelMemory()
		return before > 0
	})
	for i := range h.pairs {
		h.enable((i+1)%2, h.pairs[(i+1)%2], true)
		h.enable(i, h.pairs[i], false)
		b.Settle()
		require.Equal(t, before, b.kernelMemory())
		b.look()
		require.Equal(t, before, b.kernelMemory())
	}
	c.Reset()
	b.Until("it counts no more", func() bool { return b.kernelMemory() == 0 })
}
