package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestAPauseFollowsTheGuest(t *testing.T) {
	p := pacer{precise: true}
	sends := func(bytes uint64) bool { return p.pauses(turn{bytes: bytes, frames: 1}) }
	require.False(t, sends(0), "an idle guest is asked to kick at once")
	require.False(t, sends(busyTurn-1))
	require.True(t, sends(busyTurn))
	require.Equal(t, 2*minPause, p.pause, "it was too short to gather much")
	require.True(t, sends(fullTurn))
	require.Equal(t, 2*minPause, p.pause, "it gathers what it should")
	require.True(t, sends(2*fullTurn+1))
	require.Equal(t, minPause, p.pause, "shorter will do")
	for range 10 {
		require.True(t, sends(busyTurn))
	}
	require.Equal(t, maxPause, p.pause)
	require.False(t, p.pauses(turn{}))
	require.Equal(t, minPause, p.pause, "the next run begins anew")

	old := pacer{}
	require.False(t, old.pauses(turn{bytes: fullTurn, frames: 4}), "a kernel that cannot sleep so briefly")
}

// small makes a pacer take n turns with one short frame each, gap nanoseconds apart, and returns whether a pause follows
// the last.
func small(p *pacer, n int, gap int64, given bool) (pauses bool) {
	for range n {
		pauses = p.pauses(turn{at: p.last + gap, bytes: 64, frames: 1, given: given})
	}
	return pauses
}

func TestShortFramesThatNobodyAnswersBringPauses(t *testing.T) {
	p := pacer{precise: true}
	require.False(t, small(&p, longRun-1, 30e3, false), "it may be a question in several parts")
	require.True(t, small(&p, 1, 30e3, false))
	require.True(t, small(&p, 10, maxPause, false))
	require.Equal(t, maxPause, p.pause, "it gathers one at a time")
	require.True(t, p.pauses(turn{at: p.last + maxPause, bytes: 6400, frames: 2*fullFrames + 1}))
	require.Equal(t, maxPause/2, p.pause, "shorter will do")
	require.False(t, p.pauses(turn{at: p.last + maxPause}), "one that gathers nothing is the last")
	require.False(t, small(&p, longRun-1, 30e3, false), "and a run begins anew")
	require.True(t, small(&p, 1, 30e3, false))
	require.False(t, small(&p, 1, 30e3, true), "an answer ends it")
}

func TestQuestionsAndAnswersBringNoPause(t *testing.T) {
	p := pacer{precise: true}
	for range 10 * longRun {
		require.False(t, small(&p, 1, 30e3, false))
		require.False(t, p.pauses(turn{at: p.last + 20e3, given: true}))
	}
}

func TestShortFramesNowAndThenBringNoPause(t *testing.T) {
	p := pacer{precise: true}
	require.False(t, small(&p, 10*longRun, runGap+minPause+1, false))
}

// flushed has the thread take a frame before a pause, and returns whether the guest is interrupted for it.
func (b *bench) flushed(little bool) bool {
	b.t.Helper()
	b.tx.EnableInterrupts()
	_, ok := b.tx.Add(vqtest.Buf{GPA: b.mem.Alloc(64, 16), Len: 64})
	require.True(b.t, ok)
	b.tx.Publish()
	interrupted := false
	require.NoError(b.t, b.Do(0, func(int64) {
		l := b.loops[0]
		l.tx.q.UseN(len(l.tx.q.Fetch(1)))
		l.pausing = true
		l.flush(little)
		_, err := unix.Read(b.fds[1].Call, make([]byte, 8))
		interrupted = err == nil
	}))
	_, _, ok = b.tx.Used()
	require.True(b.t, ok, "it sees what was taken in any case")
	return interrupted
}

func TestAnInterruptForLittleIsLeftForTheEndOfAPause(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	require.True(t, b.flushed(false))
	require.False(t, b.flushed(true))
	b.raised(b.fds[1].Call) // now it is over
}
