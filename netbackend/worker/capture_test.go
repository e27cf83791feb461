package worker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// newTap returns a tap of all frames.
func newTap(t *testing.T) *capture.Tap {
	tap, err := capture.NewTap(capture.Options{SnapLen: capture.MaxSnapLen, Memory: capture.MinMemory})
	require.NoError(t, err)
	return tap
}

// seen are the frames that a tap has, each as its direction and its first byte.
func seen(tap *capture.Tap) (all []string) {
	var f capture.Frame
	for tap.Peek(&f) {
		way := "from "
		if f.ToGuest {
			way = "to "
		}
		all = append(all, way+string(f.Data[0]))
		tap.Drop()
	}
	return all
}

// frameOf is a frame that begins so.
func frameOf(first byte) []byte {
	frame := make([]byte, 60)
	frame[0] = first
	return frame
}

func TestACaptureHasWhatPassesInItsOrder(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	b.post(8)
	b.port.reply = frameOf('x')
	b.send(frameOf('a'))
	b.taken(1, "before")
	tap := newTap(t)
	b.SetCapture(0, capture.NewHook([]*capture.Tap{tap}))
	b.send(frameOf('b'))
	b.taken(2, "during")
	b.send(frameOf('c'))
	b.taken(3, "during")
	require.Equal(t, []string{"from b", "to x", "from c", "to x"}, seen(tap))
	b.SetCapture(0, nil)
	require.NoError(t, b.AdoptCaptures())
	b.send(frameOf('d'))
	b.taken(4, "after")
	require.Empty(t, seen(tap))
}

// A frame that the Port leaves in the ring is offered again, and captured once.
func TestAFrameThatWaitsIsCapturedOnce(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	takes := byte(0)
	b.port.accept = func(frame []byte) bool { return frame[12] <= takes }
	tap := newTap(t)
	b.SetCapture(0, capture.NewHook([]*capture.Tap{tap}))
	for _, c := range []byte("abc") {
		b.send(frameOf(c))
	}
	for range 3 {
		b.turns(2)
	}
	b.port.set(func() { takes = 'b' })
	b.turns(1)
	b.taken(2, "two are taken")
	b.send(frameOf('d'))
	b.turns(2)
	b.port.set(func() { takes = 'z' })
	b.turns(1)
	b.taken(4, "all are taken")
	require.Equal(t, []string{"from a", "from b", "from c", "from d"}, seen(tap))
}

// turns lets the thread have at least so many turns, and waits until they have ended.
func (b *bench) turns(n int) {
	count := func() (turns int) {
		b.port.set(func() { turns = b.port.turns })
		return turns
	}
	before := count()
	b.eventually(func() bool {
		require.NoError(b.t, b.Do(0, func(*Thread) {}))
		return count() >= before+n
	}, "turns")
	require.NoError(b.t, b.Do(0, func(*Thread) {}))
}

// Frames that were left in a ring that has stopped are others when it starts again.
func TestARingThatStartsAgainIsCapturedFromItsBeginning(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	refuse := true
	b.port.accept = func([]byte) bool { return !refuse }
	tap := newTap(t)
	b.SetCapture(0, capture.NewHook([]*capture.Tap{tap}))
	b.send(frameOf('a'))
	b.turns(2)
	require.Equal(t, []string{"from a"}, seen(tap))
	b.tx = vqtest.NewDriver(b.mem, vqtest.Options{Size: 64, EventIdx: true})
	b.send(frameOf('b'))
	require.NoError(t, b.Do(0, func(*Thread) { // without a turn between
		l := b.loops[0]
		_, err := l.stopRing(l.tx)
		require.NoError(t, err)
		require.NoError(t, l.startRing(l.tx, b.tx.Layout(), b.fds[1]))
		b.port.set(func() { refuse = false })
	}))
	b.taken(1, "the new ring's")
	require.Equal(t, []string{"from b"}, seen(tap))
}

// Who begins to look wakes nobody.
func TestACaptureThatBeginsWakesNoThread(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	b.eventually(func() bool {
		c, err := b.Counters(0)
		require.NoError(t, err)
		return c.Age == 0 && c.Thread.Sleeps > 0
	}, "the thread sleeps, and has published")
	before, err := b.Counters(0)
	require.NoError(t, err)
	b.SetCapture(0, capture.NewHook([]*capture.Tap{newTap(t)}))
	b.SetCapture(0, nil)
	var after uint64
	require.NoError(t, b.Do(0, func(thread *Thread) { after = thread.Stats().Turns }))
	require.Equal(t, before.Thread.Turns, after)
}
