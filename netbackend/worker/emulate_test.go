package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// emulate sets a link of a text.
func (b *bench) emulate(text string) {
	b.t.Helper()
	l, err := netem.Parse(text)
	require.NoError(b.t, err)
	if !l.IsZero() {
		l.Seed = 1
	}
	require.NoError(b.t, b.Emulate(l))
}

// emulates reports whether the thread has a link.
func (b *bench) emulates() (is bool) {
	require.NoError(b.t, b.Do(0, func(th *Thread) { is = th.loop.emulated != nil }))
	return is
}

// link is what was counted of the link.
func (b *bench) link() netem.Counters {
	require.NoError(b.t, b.Do(0, func(*Thread) {})) // so that it is published
	c, err := b.Counters(0)
	require.NoError(b.t, err)
	return c.Thread.Link
}

func TestFramesOfAnEmulatedLinkComeWhenTheyAreDue(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = frameOf('x')
	b.up()
	b.post(4)
	b.rx.EnableInterrupts()
	b.emulate("out:delay=40ms,in:delay=30ms")
	begin := time.Now()
	b.send(frameOf('a'))
	b.raised(b.fds[0].Call) // no event but the time brings the frame, both ways
	require.GreaterOrEqual(t, time.Since(begin), 70*time.Millisecond)
	require.Equal(t, frameOf('a'), b.port.frames[0][vnet.HeaderLen:])
	_, written, ok := b.rx.Used()
	require.True(t, ok)
	require.EqualValues(t, vnet.HeaderLen+60, written)
	b.emulate("loss=100%")
	b.send(frameOf('b'))
	b.eventually(func() bool { return b.link() == netem.Counters{OutLost: 1} }, "the frame is lost")
}

// The Port behind the link stays the one that others ask for, and is told what the guest takes again when the link is gone.
func TestALinkIsGoneWithItsLastFrame(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	require.False(t, b.emulates())
	b.emulate("delay=200ms")
	require.True(t, b.emulates())
	require.NoError(t, b.Do(0, func(th *Thread) { require.Same(t, b.port, th.Port()) }))
	require.EqualValues(t, features&^vnet.FeatureMrgRxBuf, b.port.features)
	begin := time.Now()
	b.send(frameOf('a'))
	b.eventually(func() bool { return b.tx.UsedIdx() == 1 }, "the frame is under way")
	b.emulate("none")
	b.send(frameOf('b'))
	b.taken(2, "both frames are there")
	require.GreaterOrEqual(t, time.Since(begin), 200*time.Millisecond)
	b.eventually(func() bool { return !b.emulates() }, "the link is gone")
	require.EqualValues(t, features, b.port.features)
	require.Equal(t, "ab", string(b.port.frames[0][vnet.HeaderLen])+string(b.port.frames[1][vnet.HeaderLen]))
	require.Equal(t, netem.Counters{}, b.link())
}

func TestALinkThatIsNotThereEndsWithoutATrace(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.emulate("none")
	b.up()
	b.send(frameOf('a'))
	b.taken(1, "a frame")
	b.emulate("delay=1ms")
	b.emulate("none")
	b.eventually(func() bool { return !b.emulates() }, "nothing was under way")
}

// Whatever ends while frames are under way: what is under way is dropped with the driver, and nothing else is touched.
func TestRingsThatEndTakeWhatIsUnderWayWithThem(t *testing.T) {
	for name, end := range map[string]func(b *bench){
		"the session ends":      func(b *bench) { require.NoError(b.t, b.Reset()) },
		"the driver is reset":   func(b *bench) { require.NoError(b.t, b.DriverReset()) },
		"the memory is taken":   func(b *bench) { require.Error(b.t, b.SetMemory(nil)) },
		"the device is closed":  func(b *bench) { require.NoError(b.t, b.Close()) },
		"buffers are withdrawn": func(b *bench) { b.rx.TakeBack(2); require.NoError(b.t, b.Reset()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, vqtest.Heap)
			b.port.reply = frameOf('x')
			b.up()
			b.post(2)
			b.emulate("in:delay=50s")
			for i := range 3 {
				b.send(frameOf(byte('a' + i)))
			}
			b.taken(3, "the replies are under way")
			end(b)
			if name != "the device is closed" {
				require.EqualValues(t, 3, b.link().InDiscarded)
			}
			require.Zero(t, b.rx.UsedIdx())
		})
	}
}

// What is under way to a guest that is paused comes when it goes on.
func TestAPausedGuestKeepsWhatIsUnderWay(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = frameOf('x')
	b.up()
	b.post(4)
	b.send(frameOf('a'))
	b.taken(1, "before")     // so that the ring goes on at another index than 0
	b.emulate("in:delay=4s") // longer than it takes to stop the ring
	b.send(frameOf('b'))
	b.taken(2, "the reply is under way")
	state, err := b.StopRing(0)
	require.NoError(t, err)
	require.Equal(t, virtqueue.SplitState(1), state)
	cfg := b.rx.Layout()
	cfg.State = state
	require.NoError(t, b.StartRing(0, cfg, b.fds[0]))
	b.eventually(func() bool { return b.rx.UsedIdx() == 2 }, "the reply comes")
	require.Equal(t, netem.Counters{}, b.link())
}

func TestLinksChangeWhileFramesPass(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 40 {
			for _, text := range []string{"delay=1ms", "rate=100mbit,delay=2ms", "none", "delay=100us,seed=3"} {
				b.emulate(text)
			}
		}
	}()
	n := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		b.send(frameOf('a'))
		n++
		b.eventually(func() bool {
			_, _, ok := b.tx.Used()
			return ok
		}, "the frame left the ring")
	}
	b.taken(n, "all frames come")
	require.Equal(t, netem.Counters{}, b.link())
}
