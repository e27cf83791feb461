package nat_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// single are guests that take one segment a frame.
var single = porttest.Options{Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf}

// tally counts the data that the engine sends to the guest, and loses some of its segments.
type tally struct {
	sent, lost int // bytes
	segments   int
}

// lose makes the path lose the segments to the guest that carry data and that which says, counted from 0.
func lose(b *bench, which func(segment int) bool) *tally {
	var t tally
	b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
		if d != porttest.ToGuest || len(s.Payload) == 0 {
			return false
		}
		n := t.segments
		t.segments++
		t.sent += len(s.Payload)
		if !which(n) {
			return false
		}
		t.lost += len(s.Payload)
		return true
	}
	return &t
}

func write(t *testing.T, c net.Conn, data []byte) {
	t.Helper()
	_, err := c.Write(data)
	require.NoError(t, err)
}

func TestT25SelectiveAcknowledgementsSpareWhatTheGuestHas(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config, guest: single})
		c, host := b.connect(porttest.TCPOptions{SACK: true})
		count := lose(b, func(n int) bool { return n == 1 || n == 2 || n == 7 || n == 9 || n == 10 })
		down := noise(40_000)
		write(t, host, down)
		start := b.Now()
		b.Settle()
		requireSame(t, down, c.Received())
		require.Equal(t, start, b.Now(), "no time passed")
		require.Equal(t, count.lost, count.sent-len(down), "what was lost is repeated, and nothing else")
	})
}

// A single segment that the guest has behind the hole is enough, if it is a large one.
func TestT25OneLargeSegmentBehindAHoleEndsTheWait(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{SACK: true, Window: 1 << 20, WScale: 5})
	count := lose(b, func(n int) bool { return n == 0 })
	down := noise(120_000)
	write(t, host, down)
	start := b.Now()
	b.Settle()
	requireSame(t, down, c.Received())
	require.Equal(t, start, b.Now())
	require.Equal(t, count.lost, count.sent-len(down))
}

func TestT25SelectiveAcknowledgementsThatLieHarmNobody(t *testing.T) {
	b := newBench(t, setup{guest: single})
	c, host := b.connect(porttest.TCPOptions{SACK: true, ManualAck: true})
	lose(b, func(n int) bool { return n < 20 })
	down := noise(40_000)
	write(t, host, down)
	b.Settle()
	for _, block := range [][2]uint32{{0, 1 << 31}, {1, 5}, {5, 1}, {100, 1 << 20}, {2000, 2001}, {0, 0}, {1 << 31, 1<<31 + 9}} {
		for range 4 {
			s := c.Segment(porttest.ACK, nil)
			s.Options = []byte{1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0}
			for i, edge := range block {
				v := c.RcvNxt + edge
				copy(s.Options[4+4*i:], []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
			}
			c.SendSegment(s)
			b.Turn()
		}
	}
	c.ManualAck = false
	b.Skip("all comes", func() bool { return len(c.Received()) == len(down) })
	requireSame(t, down, c.Received())
}

func TestT25GuestThatWasNotRunningGetsOneSegmentAgain(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect(porttest.TCPOptions{ManualAck: true})
		count := lose(b, func(int) bool { return false })
		down := noise(60_000)
		write(t, host, down)
		b.Settle()
		require.Len(t, c.Received(), len(down))
		b.Skip("the timer runs out", func() bool { return b.port.Counters().Retransmits > 0 })
		require.LessOrEqual(t, count.sent, len(down)+1460, "one segment was sent again")

		sent := count.sent
		c.SendAck()
		b.Settle()
		require.Equal(t, sent, count.sent, "the guest has all the rest")
	})
}

func TestT25TimeoutAfterTheLossOfAllBringsAllAgain(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config, guest: single})
		c, host := b.connect()
		count := lose(b, func(n int) bool { return n < 41 })
		down := noise(60_000) // in 42 segments
		write(t, host, down[:59_000])
		b.Settle()
		require.Empty(t, c.Received())
		write(t, host, down[59_000:])
		start := b.Now()
		b.Skip("all comes", func() bool { return len(c.Received()) == len(down) })
		requireSame(t, down, c.Received())
		require.Less(t, time.Duration(b.Now()-start), 2*time.Second, "by one timeout")
		require.LessOrEqual(t, count.segments, 2*42+2)
	})
}

// The delay doubles until the guest acknowledges.
func TestT25RepetitionsGetRarer(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{ManualAck: true})
	write(t, host, []byte("x"))
	c.WaitFor(1)
	c.SendAck()
	b.Settle()
	write(t, host, []byte("y"))
	b.Settle()
	var delays []time.Duration
	for i := range uint64(5) {
		start := b.Now()
		b.Skip("it is repeated", func() bool { return b.port.Counters().Retransmits > i })
		delays = append(delays, time.Duration(b.Now()-start))
	}
	for i := 1; i < len(delays); i++ {
		require.InDelta(t, 2*delays[i-1], delays[i], float64(20*time.Millisecond), "%v", delays)
	}
	require.GreaterOrEqual(t, delays[0], 200*time.Millisecond, "a guest may delay its acknowledgements as long")
}
