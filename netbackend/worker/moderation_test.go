package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/vqtest"
)

// start is a time in nanoseconds at which nothing of before matters any more.
const start = int64(1e9)

// pausing is the moderation of a guest that has just sent many short frames, one soon after the other.
func pausing() moderation {
	return moderation{coalescer: coalescer{precise: true, pause: minPause, direction: fromGuest, run: longRun, last: start}}
}

// receiving is the moderation of a guest that was interrupted at start for having received much.
func receiving() moderation { return moderation{irq: irq{lastRX: start}} }

func TestATurnIsFollowedByWhatItsFramesAskFor(t *testing.T) {
	feeding := pausing()
	feeding.coalescer.direction = toGuest
	for _, tt := range []struct {
		name string
		m    moderation
		turn turnStats
		want sleepPlan
	}{
		{"nothing", moderation{}, turnStats{}, sleepPlan{interrupt: true}},
		{"a frame", moderation{}, turnStats{taken: 1, sent: 60}, sleepPlan{interrupt: true}},

		{"little in a run is interrupted for at the end of the pause", pausing(), turnStats{taken: 1, sent: 60},
			sleepPlan{mode: coalesce, pause: 2 * minPause}},
		{"much is interrupted for at once", pausing(), turnStats{taken: 2, sent: busyTurn},
			sleepPlan{mode: coalesce, pause: 2 * minPause, interrupt: true}},
		{"much, of a guest that was interrupted in the same turn", pausing(), turnStats{taken: 2, sent: busyTurn, interrupted: true},
			sleepPlan{mode: coalesce, pause: 2 * minPause}},
		{"an answer ends the run", pausing(), turnStats{taken: 1, sent: 60, given: 1}, sleepPlan{interrupt: true}},
		{"no pause with more to do", pausing(), turnStats{taken: 1, sent: 60, more: true}, sleepPlan{interrupt: true}},
		{"no pause for a driver that polls for what it has sent", pausing(), turnStats{taken: 1, sent: 60, txPolled: true},
			sleepPlan{interrupt: true}},
		{"though it polls for what it receives", pausing(), turnStats{taken: 1, sent: 60, rxPolled: true},
			sleepPlan{mode: coalesce, pause: 2 * minPause}},

		{"a run of received frames", feeding, turnStats{given: 1, received: 60, interrupted: true},
			sleepPlan{mode: coalesceRX, pause: 2 * minPause, interrupt: true}},
		{"that the guest has no room for", feeding, turnStats{noRoom: true},
			sleepPlan{mode: coalesceRX, pause: 2 * minPause, interrupt: true}},
		{"no pause for a driver that polls for them", feeding, turnStats{given: 1, rxPolled: true}, sleepPlan{interrupt: true}},
		{"though it polls for what it has sent", feeding, turnStats{given: 1, txPolled: true},
			sleepPlan{mode: coalesceRX, pause: 2 * minPause, interrupt: true}},

		{"little of a guest that receives much is deferred", receiving(), turnStats{taken: 1, sent: 60}, sleepPlan{}},
		{"and much is not", receiving(), turnStats{taken: 1, sent: busyTurn}, sleepPlan{interrupt: true}},
		{"receiving much begins with the interrupt for it", moderation{},
			turnStats{received: busyTurn, given: 1, interrupted: true}, sleepPlan{}},
		{"not with frames that it was not interrupted for", moderation{},
			turnStats{received: busyTurn, given: 1}, sleepPlan{interrupt: true}},
		{"nor with little", moderation{},
			turnStats{received: busyTurn - 1, given: 1, interrupted: true}, sleepPlan{interrupt: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.turn.at = start + 1
			require.Equal(t, tt.want, tt.m.after(tt.turn))
		})
	}
}

func TestADeferredInterruptComesInTime(t *testing.T) {
	m := receiving()
	require.Zero(t, m.irq.due(), "none is deferred")
	little := turnStats{at: start + 1, taken: 1, sent: 60}
	require.False(t, m.after(little).interrupt)
	require.Equal(t, start+1+maxDelay, m.irq.due())
	m.irq.lastRX = start + maxDelay - 1 // it goes on to receive
	little.at = start + maxDelay
	require.False(t, m.before(little.at))
	require.False(t, m.after(little).interrupt)
	require.Equal(t, start+1+maxDelay, m.irq.due(), "since the first")
	require.False(t, m.irq.overdue(start+maxDelay))
	require.True(t, m.irq.overdue(start+1+maxDelay))
	require.True(t, m.before(start+1+maxDelay))
	require.Zero(t, m.irq.due())

	m, little.at = receiving(), start+1
	require.False(t, m.after(little).interrupt)
	little.at = start + maxDelay
	require.True(t, m.after(little).interrupt, "it received the last frame long ago")
	require.Zero(t, m.irq.due())
}

func TestWhatAPauseHasLeftIsInterruptedForAtItsEnd(t *testing.T) {
	m := pausing()
	require.False(t, m.after(turnStats{at: start + 1, taken: 1, sent: 60}).interrupt)
	require.Zero(t, m.irq.due(), "the pause ends before")
	require.True(t, m.before(start+minPause))
}

func TestPollingEndsWithTheNextTurn(t *testing.T) {
	m := moderation{poller: poller{bound: 80 * us, window: 80 * us, oversubscribed: neverOversubscribed}}
	require.Equal(t, block, m.after(turnStats{at: start, taken: 1, sent: 60}).mode)
	require.False(t, m.idle(start+1, false), "no ring runs")
	require.True(t, m.idle(start+1, true))
	require.True(t, m.polling)
	m.before(start + 2)
	require.False(t, m.polling)
	m.after(turnStats{at: start + 2})
	require.False(t, m.idle(start+80*us, true), "the last work was at start: a turn without frames is none")
}

func TestPollingLearnsFromTheGapsThatASleepHasBridged(t *testing.T) {
	m := moderation{poller: poller{bound: 80 * us, window: 10 * us, oversubscribed: neverOversubscribed}}
	work := turnStats{at: start, taken: 1, sent: 60}
	m.after(work)
	work.at += 100 * us
	m.after(work)
	require.Equal(t, 10*us, m.poller.window, "the thread did not sleep")
	m.sleeps()
	work.at += 100 * us
	m.after(work)
	require.Equal(t, 20*us, m.poller.window)
}

// finished has the thread take a frame in a turn in which the guest has sent so many bytes, and returns whether the guest is
// interrupted for it.
func (b *bench) finished(prepare func(m *moderation, at int64), sent uint64) bool {
	b.t.Helper()
	added, interrupted := false, false
	require.NoError(b.t, b.Do(0, func(*Thread) { // all of it, so that no turn of the thread's comes in between
		l := b.loops[0]
		_, _ = unix.Read(b.fds[1].Call, make([]byte, 8)) // of before
		b.tx.EnableInterrupts()
		_, added = b.tx.Add(vqtest.Buf{GPA: b.mem.Alloc(64, 16), Len: 64})
		b.tx.Publish()
		l.tx.q.UseN(len(l.tx.q.Fetch(1)))
		prepare(&l.moderation, l.at)
		l.finish(turnStats{at: l.at, taken: 1, sent: sent})
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
	pause := func(m *moderation, at int64) {
		m.coalescer = coalescer{precise: true, pause: minPause, direction: fromGuest, run: longRun, last: at}
	}
	require.True(t, b.finished(pause, busyTurn))
	require.False(t, b.finished(pause, 1))
	b.raised(b.fds[1].Call) // now it is over
}

func TestAnInterruptForLittleIsOwedToAGuestThatGetsMuch(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	gets := func(m *moderation, at int64) { m.irq.lastRX = at }
	require.True(t, b.finished(gets, busyTurn))
	require.False(t, b.finished(gets, 1))
	b.raised(b.fds[1].Call) // nothing else has come, so the guest has not looked by itself
	require.True(t, b.finished(func(m *moderation, at int64) { m.irq.lastRX = at - maxDelay }, 1), "it gets nothing any more")
}
