package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestAPauseFollowsTheGuest(t *testing.T) {
	p := pacer{precise: true}
	sends := func(bytes uint64) bool { return p.after(turn{bytes: bytes, taken: 1}) == forAPause }
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
	require.Equal(t, untilCalled, p.after(turn{}))
	require.Equal(t, minPause, p.pause, "the next run begins anew")

	old := pacer{}
	require.Equal(t, untilCalled, old.after(turn{bytes: fullTurn, taken: 4}), "a kernel that cannot sleep so briefly")
}

// small makes a pacer take n turns with one short frame each, gap nanoseconds apart, and returns whether a pause follows
// the last.
func small(p *pacer, n int, gap int64, given int) (pauses bool) {
	for range n {
		pauses = p.after(turn{at: p.last + gap, bytes: 64, taken: 1, given: given}) == forAPause
	}
	return pauses
}

func TestShortFramesThatNobodyAnswersBringPauses(t *testing.T) {
	p := pacer{precise: true}
	require.False(t, small(&p, longRun-1, 30e3, 0), "it may be a question in several parts")
	require.True(t, small(&p, 1, 30e3, 0))
	require.True(t, small(&p, 10, maxPause, 0))
	require.Equal(t, maxPause, p.pause, "it gathers one at a time")
	require.Equal(t, forAPause, p.after(turn{at: p.last + maxPause, bytes: 6400, taken: 2*fullFrames + 1}))
	require.Equal(t, maxPause/2, p.pause, "shorter will do")
	require.Equal(t, untilCalled, p.after(turn{at: p.last + maxPause}), "one that gathers nothing is the last")
	require.False(t, small(&p, longRun-1, 30e3, 0), "and a run begins anew")
	require.True(t, small(&p, 1, 30e3, 0))
	require.False(t, small(&p, 1, 30e3, 1), "an answer ends it")
}

func TestQuestionsAndAnswersBringNoPause(t *testing.T) {
	p := pacer{precise: true}
	for range 10 * longRun {
		require.False(t, small(&p, 1, 30e3, 0))
		require.Equal(t, untilCalled, p.after(turn{at: p.last + 20e3, given: 1}))
	}
}

func TestShortFramesNowAndThenBringNoPause(t *testing.T) {
	p := pacer{precise: true}
	require.False(t, small(&p, 10*longRun, runGap+minPause+1, 0))
}

// fed makes a pacer take n turns that give the guest frames, gap nanoseconds apart, and returns how the thread sleeps then.
func fed(p *pacer, n int, gap int64, frames int) (how rest) {
	for range n {
		how = p.after(turn{at: p.last + gap, given: frames})
	}
	return how
}

func TestFramesThatTheGuestDoesNotAnswerBringDeafPauses(t *testing.T) {
	p := pacer{precise: true}
	require.Equal(t, untilCalled, fed(&p, longRun-1, 10e3, 1), "it may be an answer in several parts")
	require.Equal(t, deaf, fed(&p, 1, 10e3, 1))
	require.Equal(t, deaf, fed(&p, 10, maxPause, 1))
	require.Equal(t, maxPause, p.pause, "it gathers one at a time")
	require.Equal(t, deaf, fed(&p, 1, maxPause, 2*fullFrames+1))
	require.Equal(t, maxPause/2, p.pause, "shorter will do")
	require.Equal(t, untilCalled, p.after(turn{at: p.last + maxPause}), "one that gathers nothing is the last")
	require.Equal(t, untilCalled, fed(&p, longRun-1, 10e3, 1), "and a run begins anew")
	require.Equal(t, deaf, fed(&p, 1, 10e3, 1))
	require.Equal(t, untilCalled, p.after(turn{at: p.last + 10e3, bytes: 64, taken: 1}), "an answer ends it")

	old := pacer{}
	require.Equal(t, untilCalled, fed(&old, 2*longRun, 10e3, 1), "a kernel that cannot sleep so briefly")
}

func TestAGuestWithoutRoomIsLeftAloneWhileMoreComes(t *testing.T) {
	p := pacer{precise: true}
	require.Equal(t, deaf, fed(&p, longRun, 10e3, 4))
	for range longRun {
		require.Equal(t, deaf, p.after(turn{at: p.last + 10e3, full: true}), "each arrival would wake the thread for nothing")
	}
	require.Equal(t, untilCalled, p.after(turn{at: p.last + 10e3}), "nothing more comes: it sleeps until the guest has room")
}

func TestFramesForTheGuestNowAndThenBringNoPause(t *testing.T) {
	p := pacer{precise: true}
	require.Equal(t, untilCalled, fed(&p, 10*longRun, runGap+minPause+1, 1))
}

// flushed has the thread take a frame, and returns whether the guest is interrupted for it.
func (b *bench) flushed(prepare func(*loop), little bool) bool {
	b.t.Helper()
	added, interrupted := false, false
	require.NoError(b.t, b.Do(0, func(int64) { // all of it, so that no turn of the thread's comes in between
		l := b.loops[0]
		_, _ = unix.Read(b.fds[1].Call, make([]byte, 8)) // of before
		b.tx.EnableInterrupts()
		_, added = b.tx.Add(vqtest.Buf{GPA: b.mem.Alloc(64, 16), Len: 64})
		b.tx.Publish()
		l.tx.q.UseN(len(l.tx.q.Fetch(1)))
		prepare(l)
		l.flush(little, false)
		_, err := unix.Read(b.fds[1].Call, make([]byte, 8))
		interrupted = err == nil
	}))
	require.True(b.t, added)
	_, _, ok := b.tx.Used()
	require.True(b.t, ok, "it sees what was taken in any case")
	return interrupted
}

func TestAnInterruptForLittleIsLeftForTheEndOfAPause(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	pause := func(l *loop) { l.rest = forAPause }
	require.True(t, b.flushed(pause, false))
	require.False(t, b.flushed(pause, true))
	b.raised(b.fds[1].Call) // now it is over
}

func TestAnInterruptForLittleIsOwedToAGuestThatGetsMuch(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	gets := func(l *loop) { l.fed = l.at }
	require.True(t, b.flushed(gets, false))
	require.False(t, b.flushed(gets, true))
	b.raised(b.fds[1].Call) // nothing else has come, so the guest has not looked by itself
	require.True(t, b.flushed(func(l *loop) { l.fed = l.at - owedPatience }, true), "it gets nothing any more")
}
