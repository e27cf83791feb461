package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPauseFollowsTheGuest(t *testing.T) {
	c := coalescer{precise: true}
	sends := func(bytes uint64) bool { return c.after(&turnStats{sent: bytes, taken: 1}) == coalesce }
	require.False(t, sends(0), "an idle guest is asked to kick at once")
	require.False(t, sends(busyTurn-1))
	require.True(t, sends(busyTurn))
	require.Equal(t, 2*minPause, c.pause, "it was too short to gather much")
	require.True(t, sends(fullTurn))
	require.Equal(t, 2*minPause, c.pause, "it gathers what it should")
	require.True(t, sends(2*fullTurn+1))
	require.Equal(t, minPause, c.pause, "shorter will do")
	for range 10 {
		require.True(t, sends(busyTurn))
	}
	require.Equal(t, maxPause, c.pause)
	require.Equal(t, block, c.after(&turnStats{}))
	require.Equal(t, minPause, c.pause, "the next run begins anew")

	old := coalescer{}
	require.Equal(t, block, old.after(&turnStats{sent: fullTurn, taken: 4}), "a kernel that cannot sleep so briefly")
}

// small makes a coalescer take n turns with one short frame each, gap nanoseconds apart, and returns whether a pause follows
// the last.
func small(c *coalescer, n int, gap int64, given int) (pauses bool) {
	for range n {
		pauses = c.after(&turnStats{at: c.last + gap, sent: 64, taken: 1, given: given}) == coalesce
	}
	return pauses
}

func TestShortFramesThatNobodyAnswersBringPauses(t *testing.T) {
	c := coalescer{precise: true}
	require.False(t, small(&c, longRun-1, 30e3, 0), "it may be a question in several parts")
	require.True(t, small(&c, 1, 30e3, 0))
	require.True(t, small(&c, 10, maxPause, 0))
	require.Equal(t, maxPause, c.pause, "it gathers one at a time")
	require.Equal(t, coalesce, c.after(&turnStats{at: c.last + maxPause, sent: 6400, taken: 2*fullFrames + 1}))
	require.Equal(t, maxPause/2, c.pause, "shorter will do")
	require.Equal(t, block, c.after(&turnStats{at: c.last + maxPause}), "one that gathers nothing is the last")
	require.False(t, small(&c, longRun-1, 30e3, 0), "and a run begins anew")
	require.True(t, small(&c, 1, 30e3, 0))
	require.False(t, small(&c, 1, 30e3, 1), "an answer ends it")
}

func TestQuestionsAndAnswersBringNoPause(t *testing.T) {
	c := coalescer{precise: true}
	for range 10 * longRun {
		require.False(t, small(&c, 1, 30e3, 0))
		require.Equal(t, block, c.after(&turnStats{at: c.last + 20e3, given: 1}))
	}
}

func TestShortFramesNowAndThenBringNoPause(t *testing.T) {
	c := coalescer{precise: true}
	require.False(t, small(&c, 10*longRun, runGap+minPause+1, 0))
}

// received makes a coalescer take n turns that give the guest frames, gap nanoseconds apart, and returns how the thread sleeps then.
func received(c *coalescer, n int, gap int64, frames int) (how sleepMode) {
	for range n {
		how = c.after(&turnStats{at: c.last + gap, given: frames})
	}
	return how
}

func TestFramesThatTheGuestDoesNotAnswerBringDeafPauses(t *testing.T) {
	c := coalescer{precise: true}
	require.Equal(t, block, received(&c, longRun-1, 10e3, 1), "it may be an answer in several parts")
	require.Equal(t, coalesceRX, received(&c, 1, 10e3, 1))
	require.Equal(t, coalesceRX, received(&c, 10, maxPause, 1))
	require.Equal(t, maxPause, c.pause, "it gathers one at a time")
	require.Equal(t, coalesceRX, received(&c, 1, maxPause, 2*fullFrames+1))
	require.Equal(t, maxPause/2, c.pause, "shorter will do")
	require.Equal(t, block, c.after(&turnStats{at: c.last + maxPause}), "one that gathers nothing is the last")
	require.Equal(t, block, received(&c, longRun-1, 10e3, 1), "and a run begins anew")
	require.Equal(t, coalesceRX, received(&c, 1, 10e3, 1))
	require.Equal(t, block, c.after(&turnStats{at: c.last + 10e3, sent: 64, taken: 1}), "an answer ends it")

	old := coalescer{}
	require.Equal(t, block, received(&old, 2*longRun, 10e3, 1), "a kernel that cannot sleep so briefly")
}

func TestAGuestWithoutRoomIsLeftAloneWhileMoreComes(t *testing.T) {
	c := coalescer{precise: true}
	require.Equal(t, coalesceRX, received(&c, longRun, 10e3, 4))
	for range longRun {
		require.Equal(t, coalesceRX, c.after(&turnStats{at: c.last + 10e3, noRoom: true}), "each arrival would wake the thread for nothing")
	}
	require.Equal(t, block, c.after(&turnStats{at: c.last + 10e3}), "nothing more comes: it sleeps until the guest has room")
}

func TestFramesForTheGuestNowAndThenBringNoPause(t *testing.T) {
	c := coalescer{precise: true}
	require.Equal(t, block, received(&c, 10*longRun, runGap+minPause+1, 1))
}

// Acknowledgements are frames of their own where segments come one by one, by a driver in this process.
func TestAcknowledgementsOfAStreamAreNoAnswersOfADriverHere(t *testing.T) {
	for _, to := range []bool{false, true} {
		many, few := turnStats{unkicked: true, taken: 4, sent: 4 * 1514, given: 2, received: 2 * 60}, coalesce
		if to {
			many, few = turnStats{unkicked: true, taken: 2, sent: 2 * 60, given: 4, received: 4 * 1514}, coalesceRX
		}
		c := coalescer{precise: true}
		for i := range longRun {
			require.Equal(t, map[bool]sleepMode{false: block, true: few}[i == longRun-1], c.after(&many), "turn %d", i)
			many.at += 30e3
		}
		many.unkicked = false
		require.Equal(t, block, c.after(&many), "of a guest they are")
	}
	c := coalescer{precise: true}
	for i := range 3 * longRun {
		require.Equal(t, block, c.after(&turnStats{at: int64(i) * 30e3, unkicked: true, taken: 1, sent: 100, given: 1, received: 300}), "questions and answers")
	}
}
