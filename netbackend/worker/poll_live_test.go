package worker

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestAThreadAdoptsAnotherBoundForPollingBeforeItSleeps(t *testing.T) {
	var limit atomic.Int64
	m := moderation{poller: poller{limit: &limit, oversubscribed: neverOversubscribed}}
	work := func(at int64) bool { // after a gap of 10 us that a sleep has bridged
		m.sleeps()
		m.after(turnStats{at: at, taken: 1, sent: 60})
		return m.idle(at+1, true)
	}
	at := start
	require.False(t, work(at), "it never polls")
	limit.Store(80 * us)
	require.False(t, m.idle(at+1, true))
	require.True(t, work(at+10*us), "the gap was short")
	limit.Store(0)
	require.False(t, m.idle(at+10*us+2, true))
	require.Zero(t, m.poller.window)
}

func TestPollingIsSwitchedOnAndOffWhileGuestsAreServed(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("nobody polls on a host of one processor")
	}
	b := newBench(t, vqtest.Memfd)
	b.up()
	require.NotNil(t, b.pressure, "the host's load can be read")
	adopts := func(want time.Duration) {
		t.Helper()
		b.eventually(func() bool {
			var bound int64
			require.NoError(t, b.Do(0, func(thread *Thread) { bound = thread.loop.moderation.poller.bound })) // a turn follows
			return bound == int64(want)
		}, "the bound is not adopted")
	}
	adopts(0)
	b.SetPoll(time.Millisecond)
	adopts(time.Millisecond)
	b.SetPoll(-1)
	adopts(0)
}

func TestSleepIsBoundedAsLongAsThatIsWanted(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	sleeps := func(is func(timeout int64) bool) {
		t.Helper()
		b.eventually(func() bool {
			var timeout int64
			require.NoError(t, b.Do(0, func(thread *Thread) { timeout = thread.loop.timeout() }))
			return is(timeout)
		}, "another time to sleep")
	}
	forLong := func(timeout int64) bool { return timeout < 0 || timeout > int64(time.Hour) }
	sleeps(forLong)
	b.SetMaxSleep(time.Millisecond)
	sleeps(func(timeout int64) bool { return timeout == int64(time.Millisecond) })
	require.Equal(t, time.Millisecond, b.MaxSleep())
	b.SetMaxSleep(0)
	sleeps(forLong)
}
