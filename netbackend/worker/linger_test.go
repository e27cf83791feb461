package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// lingering makes a bench whose thread polls for up to a bound, whoever waits for a processor.
func lingering(t *testing.T, bound time.Duration) *bench {
	b := newBench(t, vqtest.Memfd)
	require.NoError(t, b.Do(0, func(*Thread) {
		b.loops[0].moderation.poller = poller{bound: int64(bound), window: int64(bound), oversubscribed: neverOversubscribed}
	}))
	return b
}

func (b *bench) stats() (s Stats) {
	require.NoError(b.t, b.Do(0, func(t *Thread) { s = t.Stats() }))
	return s
}

// A driver that never kicks is served while the thread lingers, which here is for longer than the test takes.
func TestAThreadThatLingersNeedsNoKick(t *testing.T) {
	b := lingering(t, time.Hour)
	b.up()
	b.fds[1].Kick = eventfd(t) // which the thread does not know
	require.NoError(t, b.Do(0, func(t *Thread) { t.loop.moderation.poller.worked(t.now) }))
	for i := range 50 {
		b.send([]byte{byte(i)})
		require.Eventually(t, func() bool { return b.port.count() == i+1 }, generous, time.Millisecond)
	}
	require.Positive(t, b.stats().Polled)
}

// An idle guest costs nothing: once the bound has passed, the thread sleeps, and wakes for kicks.
func TestAThreadThatLingeredSleeps(t *testing.T) {
	b := lingering(t, 100*time.Microsecond)
	b.up()
	for i := range 20 {
		b.send([]byte{byte(i)})
		require.Eventually(t, func() bool { return b.port.count() == i+1 }, generous, time.Millisecond)
	}
	b.eventually(func() bool { // on a busy machine the last look may come late
		before, spent := b.stats(), threadTime(t, b)
		time.Sleep(100 * time.Millisecond)
		spent = threadTime(t, b) - spent
		after := b.stats()
		return after.Sleeps > before.Sleeps && after.Polled == before.Polled && spent < 20*time.Millisecond
	}, "a thread that polls does not sleep, and spends 100 ms of 100 ms")
}

// threadTime returns the processor time of the thread.
func threadTime(t *testing.T, b *bench) (spent time.Duration) {
	require.NoError(t, b.Do(0, func(*Thread) {
		var usage unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &usage))
		spent = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}))
	return spent
}

func TestThreadsArePinned(t *testing.T) {
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	d, err := New(Config{Ports: []netbackend.Port{&port{}, &port{}}, CPUs: []int{cpu}})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	for i := range 2 {
		require.Equal(t, cpu, d.CPU(i))
		require.NoError(t, d.Do(i, func(*Thread) {
			var set unix.CPUSet
			require.NoError(t, unix.SchedGetaffinity(0, &set))
			require.Equal(t, 1, set.Count())
			require.True(t, set.IsSet(cpu))
		}))
	}
}

func TestAProcessorThatIsNotThereIsAnError(t *testing.T) {
	p := &port{}
	_, err := New(Config{Ports: []netbackend.Port{p}, CPUs: []int{1000}})
	require.ErrorContains(t, err, "pin a thread to processor 1000")
	require.True(t, p.closed)
}

// What a guest is owed comes in time, however long the thread lingers.
func TestAThreadThatLingersOwesNoInterruptForLong(t *testing.T) {
	b := lingering(t, time.Hour)
	b.up()
	gets := func(m *moderation, at int64) {
		m.irq.lastRX = at
		m.poller.worked(at)
	}
	require.True(t, b.finished(gets, busyTurn))
	require.False(t, b.finished(gets, 1))
	b.raised(b.fds[1].Call)
}
