package worker

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/drops"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

type portCounters struct {
	Turns  uint64 `counter:"port_turns"`
	Frames uint64 `counter:"port_frames"`
	Closed uint64 `counter:"port_closed"`
	Lost   uint64 `counter:"port_lost" kind:"drop"`
}

// counters are those of a test's Port.
func (p *port) counters() portCounters {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := portCounters{Turns: uint64(p.turns), Frames: uint64(len(p.frames)), Lost: p.lost}
	if p.closed {
		c.Closed = 1
	}
	return c
}

// published are the counters of the first pair as anybody reads them.
func published(t *testing.T, d *Device) (Stats, portCounters) {
	c, err := d.Counters(0)
	require.NoError(t, err)
	var p portCounters
	c.Port.Fill(&p)
	return c.Thread, p
}

// caughtUp waits until what is published is what was counted, without a call that wakes the thread.
func (b *bench) caughtUp() {
	b.t.Helper()
	b.eventually(func() bool {
		stats, p := published(b.t, b.Device)
		return p == b.port.counters() && stats.Turns == p.Turns
	}, "what was counted is not published")
}

// sleeper returns a function that tells how often the thread of b has gone to sleep, without waking it.
func (b *bench) sleeper() (sleeps func() int) {
	b.t.Helper()
	var thread int
	require.NoError(b.t, b.Do(0, func(*Thread) { thread = unix.Gettid() }))
	line := regexp.MustCompile(`(?m)^voluntary_ctxt_switches:\s+(\d+)$`)
	return func() int {
		text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", thread))
		require.NoError(b.t, err)
		n, err := strconv.Atoi(string(line.FindSubmatch(text)[1]))
		require.NoError(b.t, err)
		return n
	}
}

func TestTheLastValuesAreThereSoonAfterTheTrafficHasEnded(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.up()
	b.post(1) // or the thread wakes up for a driver that posts none
	for i := range 50 {
		b.send([]byte{byte(i)})
	}
	b.eventually(func() bool { return b.port.count() == 50 }, "frames are missing")
	b.caughtUp()
	stats, p := published(t, b.Device)
	require.EqualValues(t, 50, p.Frames)
	require.Positive(t, stats.Sleeps)
	b.eventually(func() bool { c, err := b.Counters(0); return err == nil && c.Age == 0 }, "nothing is counted any more")
}

// A thread that has published what it has counted sleeps until there is work: neither is it woken again and again to
// publish, nor by those that read.
func TestAnIdleThreadIsNotWokenByReaders(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.up()
	b.send([]byte{1})
	b.eventually(func() bool { return b.port.count() == 1 }, "the frame is missing")
	sleeps := b.sleeper()
	b.caughtUp()
	b.eventually(func() bool {
		// The kernel counts a thread that waits for a page or for the collector too, and a signal of the runtime's or the
		// warning of a driver that posts no buffers causes a turn.
		turns, before, calls := b.port.counters().Turns, sleeps(), 0
		for end := time.Now().Add(3 * time.Duration(publishInterval)); calls == 0 || time.Now().Before(end); calls++ {
			published(t, b.Device)
		}
		return sleeps() == before && b.port.counters().Turns == turns
	}, "the thread never sleeps for three intervals")
}

func TestAThreadTakesNoTurnToPublish(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.up()
	b.eventually(func() bool { // a signal of the runtime's causes a turn too, so it is tried until none comes in between
		b.caughtUp()
		before, _ := published(t, b.Device)
		require.NoError(t, b.Do(0, func(*Thread) {})) // which publishes, and is followed by a turn that is not published yet
		b.eventually(func() bool { now, _ := published(t, b.Device); return now.Turns > before.Turns }, "the turn is not published")
		time.Sleep(2 * time.Duration(publishInterval))
		b.caughtUp()
		now, _ := published(t, b.Device)
		return now.Turns == before.Turns+1 && now.Sleeps == before.Sleeps+1
	}, "a turn is published by another one")
}

func TestAThreadThatNeverSleepsPublishesNowAndThen(t *testing.T) {
	l, err := newLoop(&Device{}, 0, &port{}, &Config{})
	require.NoError(t, err)
	defer l.closeFDs()
	copies, before := 0, uint64(0)
	for at := int64(1); at < 10*publishInterval; at += publishInterval / 100 {
		l.stats.Turns++
		l.began = at
		l.publishIfDue()
		c, err := l.publication.read(at)
		require.NoError(t, err)
		require.Less(t, c.Age, time.Duration(publishInterval))
		require.Less(t, l.stats.Turns-c.Thread.Turns, uint64(100), "turns that are not published")
		if c.Thread.Turns != before {
			copies++
			before = c.Thread.Turns
		}
	}
	require.Equal(t, 10, copies)
}

func TestASleepIsPublishedAsATurnIs(t *testing.T) {
	for name, count := range map[string]func(*Stats){
		"a turn":  func(s *Stats) { s.Turns++ },
		"a sleep": func(s *Stats) { s.Sleeps++ },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := newLoop(&Device{}, 0, &port{}, &Config{})
			require.NoError(t, err)
			defer l.closeFDs()
			l.publish(1)
			require.Zero(t, l.publishDue(), "nothing has changed")
			count(&l.stats)
			require.Equal(t, 1+publishInterval, l.publishDue())
		})
	}
}

func TestCountersOfAClosedDeviceAreTheLast(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	require.NoError(t, b.SetMTU(1400))
	require.NoError(t, b.Close())
	stats, p := published(t, b.Device)
	require.Equal(t, b.port.counters(), p)
	require.EqualValues(t, 1, p.Closed, "what Close counts is there")
	require.NoError(t, b.Do(0, func(thread *Thread) { require.Equal(t, thread.Stats(), stats) }))
}

func TestAPortWithoutCountersPublishesThoseOfItsThread(t *testing.T) {
	d, err := New(Config{Ports: []netbackend.Port{&port{}}})
	require.NoError(t, err)
	require.NoError(t, d.Close())
	c, err := d.Counters(0)
	require.NoError(t, err)
	require.Positive(t, c.Thread.Turns)
	require.Empty(t, maps.Collect(c.Port.All()))
}

// What was dropped is kept: frames while the link is down with what is known of them, and others by the names of their counters.
func TestWhatIsDroppedIsKeptWithItsReason(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.up()
	require.NoError(t, b.SetLink(false))
	frame := make([]byte, 60)
	frame[12], frame[13] = 0x88, 0xcc
	b.send(frame)
	b.eventually(func() bool { return b.Dropped() == 1 }, "the frame is not dropped")
	last := b.Drops(0)
	require.Len(t, last, 1)
	last[0].Time = 0
	require.Equal(t, drops.Drop{Reason: "frames_on_disabled_rings", Detail: "the link is down", Frame: drops.Frame{EtherType: 0x88cc, Length: 60}}, last[0])

	require.NoError(t, b.SetLink(true))
	b.port.set(func() { b.port.lost = 5 })
	require.NoError(t, b.Do(0, func(*Thread) {})) // which publishes
	b.eventually(func() bool { return len(b.Drops(0)) == 2 }, "what the Port counts is not kept")
	last = b.Drops(0)
	require.Equal(t, drops.Drop{Time: last[1].Time, Reason: "port_lost", Left: 4}, last[1])
	_, other := published(t, b.Device)
	require.EqualValues(t, 5, other.Lost)
}

// Notifications of both directions are counted, and how full the rings were when the thread looked last.
func TestInterruptsAndOccupancyOfBothRingsAreCounted(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	before, _ := published(t, b.Device)
	require.Zero(t, before.Rings, "no ring runs")
	b.port.set(func() { b.port.reply = make([]byte, 90) })
	b.up()
	b.post(5)
	b.send(make([]byte, 60))
	b.eventually(func() bool { return b.port.count() == 1 }, "the frame is missing")
	b.caughtUp()
	stats, _ := published(t, b.Device)
	require.Positive(t, stats.Interrupts.ToGuestInterrupts)
	require.Positive(t, stats.Interrupts.FromGuestInterrupts)
	require.Positive(t, stats.Interrupts.FromGuestKicks)
	require.Positive(t, stats.Interrupts.ToGuestKicks)
	require.Zero(t, stats.Rings.FromGuestAvailable)
	require.EqualValues(t, b.tx.Layout().Size, stats.Rings.FromGuestEntries)
	require.EqualValues(t, b.rx.Layout().Size, stats.Rings.ToGuestEntries)
	b.port.set(func() { b.port.accept = func([]byte) bool { return false } })
	for range 3 {
		b.send(make([]byte, 60))
	}
	b.eventually(func() bool {
		require.NoError(t, b.Do(0, func(*Thread) {})) // which has a turn: frames behind one that waits bring none
		now, _ := published(t, b.Device)
		return now.Rings.FromGuestAvailable == 3 && now.Rings.ToGuestAvailable == 4
	}, "what waits in the rings is not counted")
}

// One turn in 16 is timed, however many there are.
func TestTheLengthOfSomeTurnsIsTaken(t *testing.T) {
	const slow = int64(3e6)
	at := int64(1)
	d := &Device{}
	l, err := newLoop(d, 0, &port{}, &Config{Now: func() int64 { return at }})
	require.NoError(t, err)
	defer l.closeFDs()
	d.loops = []*loop{l}
	l.port.(*port).during = func() { at += slow }
	for range 10 * turnSample {
		l.turn(at)
	}
	times := d.TurnTimes(0)
	require.EqualValues(t, 10, times.Count)
	require.EqualValues(t, 10*slow, times.Sum)
}

// Readers of a thread that works see counters that fit each other: a turn of the Port is one of the thread.
func TestReadersSeeTheCountersOfOneMoment(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.up()
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := b.Counters(0)
				var p portCounters
				if c.Port.Fill(&p); err != nil || p.Turns != c.Thread.Turns {
					t.Errorf("%v: %d turns of the Port in %d of the thread", err, p.Turns, c.Thread.Turns)
					return
				}
			}
		})
	}
	for i := range 300 {
		b.send([]byte{byte(i)})
		require.NoError(t, b.Do(0, func(*Thread) {})) // which publishes
		b.tx.Used()
	}
	close(stop)
	readers.Wait()
}

// Frames are counted both ways, without the virtio-net headers in front of them. One that is too short for a header has no bytes.
func TestFramesAndBytesAreCountedBothWays(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.port.set(func() { b.port.reply = make([]byte, 90) })
	b.up()
	b.post(3)
	b.send(make([]byte, 60))
	b.send(make([]byte, 1000))
	_, ok := b.tx.Add(vqtest.Buf{GPA: b.mem.Alloc(vnet.HeaderLen, 16), Len: vnet.HeaderLen - 1})
	require.True(t, ok)
	if b.tx.Publish() {
		signal(b.fds[1].Kick)
	}
	b.eventually(func() bool { return b.port.count() == 3 }, "frames are missing")
	b.caughtUp()
	stats, _ := published(t, b.Device)
	require.EqualValues(t, 3, stats.FromGuestFrames)
	require.EqualValues(t, 60+1000, stats.FromGuestBytes)
	require.EqualValues(t, 3, stats.ToGuestFrames)
	require.EqualValues(t, 3*90, stats.ToGuestBytes)
}
