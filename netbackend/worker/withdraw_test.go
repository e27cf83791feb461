package worker

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// eachBench runs a test on rings whose indexes are at the start, and near their end, with and without event indexes.
func eachBench(t *testing.T, test func(t *testing.T, b *bench)) {
	for _, base := range []uint16{0, 65530} {
		for _, eventIdx := range []bool{false, true} {
			t.Run(fmt.Sprintf("base %d, event index %v", base, eventIdx), func(t *testing.T) {
				b := newBench(t, vqtest.Heap)
				opt := vqtest.Options{Size: 64, EventIdx: eventIdx, Base: base}
				b.rx, b.tx = vqtest.NewDriver(b.mem, opt), vqtest.NewDriver(b.mem, opt)
				test(t, b)
			})
		}
	}
}

// turn waits for one more turn than there were, and has one if need be.
func (b *bench) turn() {
	b.t.Helper()
	turns := func() int { b.port.mu.Lock(); defer b.port.mu.Unlock(); return b.port.turns }
	before := turns()
	require.NoError(b.t, b.SetErr(0, b.fds[0].Err))
	b.eventually(func() bool { return turns() > before }, "no turn")
}

// takeAllBack is what Linux does when a driver is unloaded: all that it has not looked at as used.
func takeAllBack(d *vqtest.Driver) { d.TakeBack(d.Outstanding()) }

// takesBack lets drivers take all back between two turns. Within one, the thread may have looked at the ring just before.
func (b *bench) takesBack(drivers ...*vqtest.Driver) {
	b.t.Helper()
	require.NoError(b.t, b.Do(0, func(*Thread) {
		for _, d := range drivers {
			takeAllBack(d)
		}
	}))
}

func TestFramesThatTheDriverTakesBackAreNotSent(t *testing.T) {
	eachBench(t, func(t *testing.T, b *bench) {
		b.port.accept = func([]byte) bool { return false }
		b.up()
		for range 10 {
			b.send([]byte("taken back"))
		}
		b.turn()
		require.NoError(t, b.Do(0, func(*Thread) { b.tx.TakeBack(7) })) // between two turns
		b.port.set(func() { b.port.accept = nil })
		b.turn()
		b.taken(3, "those that are left in the ring are sent")
		b.send([]byte("new"))
		b.taken(4, "the ring goes on")
		require.Equal(t, "new", string(b.port.frames[3][12:]))
		require.Empty(t, b.Failed())
	})
}

func TestNothingIsWrittenToBuffersThatTheDriverTakesBack(t *testing.T) {
	eachBench(t, func(t *testing.T, b *bench) {
		b.port.reply = []byte("reply")
		b.up()
		const size, count = 2048, 10
		buffers := b.mem.Alloc(size*count, 16)
		for i := range count {
			_, ok := b.rx.Add(vqtest.Buf{GPA: buffers + guestmem.GPA(size*i), Len: size, Write: true})
			require.True(t, ok)
		}
		b.rx.Publish()
		b.send([]byte("a"))
		b.taken(1, "no reply")
		b.takesBack(b.rx)
		memory := b.mem.Bytes(buffers, size*count)
		for i := range memory {
			memory[i] = 0x55 // somebody else's by now
		}
		elses := bytes.Clone(memory)
		used := b.rx.UsedIdx()
		b.send([]byte("b"))
		b.turn()
		b.turn()
		require.NoError(t, b.EnableRing(0, false)) // waits for the thread
		require.Equal(t, used, b.rx.UsedIdx())
		require.Equal(t, elses, memory)
		require.Equal(t, 1, b.port.count(), "there was no room for a reply")
		require.Empty(t, b.Failed())
	})
}

// A driver that takes its frames back frees them in any order, so perhaps those that seem to be there still.
func TestNoFrameIsSentInATurnInWhichSomeAreTakenBack(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.accept = func([]byte) bool { return false }
	b.up()
	for range 10 {
		b.send([]byte("frame"))
	}
	b.turn()
	require.NoError(t, b.Do(0, func(*Thread) {
		tx := b.loops[0].tx
		for range 3 {
			b.tx.TakeBack(2)
			require.Empty(t, tx.fetch())
			require.True(t, tx.arm(), "the next turn comes at once")
		}
		require.Len(t, tx.fetch(), 4, "the index stands still")
	}))
}

// What is left when the driver has taken buffers back is room, though the thread has looked at it already.
func TestTheBuffersThatAreLeftAreUsedAtOnce(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = []byte("reply")
	b.up()
	b.post(10)
	b.send([]byte("a"))
	b.taken(1, "no reply")
	require.NoError(t, b.Do(0, func(*Thread) {
		l := b.loops[0]
		b.rx.TakeBack(5)
		l.writer.Recheck()
		require.False(t, l.writer.Available())
		l.writer.Starve()
		l.starved = l.writer.Starved()
		require.True(t, l.arm(), "the next turn comes at once")
	}))
	for i := range 4 {
		b.send([]byte("b"))
		b.taken(2+i, "no reply")
	}
}

// The front end says that rings stop when the driver has taken its buffers back already, and frees or overwrites them.
func TestRingsWhoseBuffersAreTakenBackStopInEveryOrder(t *testing.T) {
	stops := []struct {
		name string
		do   func(b *bench) error
	}{
		{"disable receive", func(b *bench) error { return b.EnableRing(0, false) }},
		{"disable transmit", func(b *bench) error { return b.EnableRing(1, false) }},
		{"stop receive", func(b *bench) error { return b.stops(0, b.rx) }},
		{"stop transmit", func(b *bench) error { return b.stops(1, b.tx) }},
	}
	for _, order := range permutations(len(stops)) {
		name := ""
		for _, i := range order {
			name += stops[i].name + ", "
		}
		t.Run(name, func(t *testing.T) {
			b := newBench(t, vqtest.Heap)
			b.port.accept = func(frame []byte) bool { return frame[12] != 'x' }
			b.port.reply = []byte("reply")
			b.up()
			b.post(8)
			for _, frame := range []string{"a", "b", "x", "c"} {
				b.send([]byte(frame))
			}
			b.taken(2, "two frames")
			b.takesBack(b.rx, b.tx)
			for _, i := range order {
				require.NoError(t, stops[i].do(b))
				signal(b.fds[1].Kick)
				b.turn()
			}
			require.Zero(t, b.Dropped(), "what was taken back is not dropped")
			require.Empty(t, b.Failed())

			opt := vqtest.Options{Size: 64, EventIdx: true}
			b.rx, b.tx = vqtest.NewDriver(b.mem, opt), vqtest.NewDriver(b.mem, opt)
			b.up()
			b.post(8)
			b.send([]byte("again"))
			b.taken(3, "the next driver is served")
		})
	}
}

// stops stops ring i of driver d, whose first unused index is the one behind what was used.
func (b *bench) stops(i int, d *vqtest.Driver) error {
	state, err := b.StopRing(i)
	require.Equal(b.t, virtqueue.SplitState(d.UsedIdx()), state)
	return err
}

func permutations(n int) (all [][]int) {
	if n == 0 {
		return [][]int{{}}
	}
	for _, p := range permutations(n - 1) {
		for at := range n {
			all = append(all, append(append(append([]int{}, p[:at]...), n-1), p[at:]...))
		}
	}
	return all
}

// The thread neither looks at the ring again and again, nor minds what its memory is used for next.
func TestADisabledRingWhoseMemoryIsFreedIsLeftAlone(t *testing.T) {
	for name, freed := range map[string]byte{"zero": 0, "ones": 0xff, "poison": 0x6b} {
		for _, eventIdx := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, event index %v", name, eventIdx), func(t *testing.T) {
				b := newBench(t, vqtest.Heap)
				opt := vqtest.Options{Size: 64, EventIdx: eventIdx}
				b.rx, b.tx = vqtest.NewDriver(b.mem, opt), vqtest.NewDriver(b.mem, opt)
				b.up()
				b.post(8)
				for range 5 {
					b.send([]byte("frame"))
				}
				b.taken(5, "no frames")
				b.takesBack(b.rx, b.tx)
				require.NoError(t, b.EnableRing(0, false))
				require.NoError(t, b.EnableRing(1, false))
				b.requireAsleep()
				require.NoError(t, b.Do(0, func(*Thread) { // between two turns: one follows each look whether it is asleep
					for i := range b.mem.Bytes(vqtest.BaseGPA, 1<<16) {
						b.mem.Bytes(vqtest.BaseGPA, 1<<16)[i] = freed
					}
				}))
				signal(b.fds[0].Kick) // as any late kick
				signal(b.fds[1].Kick)
				b.turn()
				b.requireAsleep()
				require.Empty(t, b.Failed(), "the session goes on")
				for i, d := range []**vqtest.Driver{&b.rx, &b.tx} {
					_, err := b.StopRing(i)
					require.NoError(t, err)
					*d = vqtest.NewDriver(b.mem, opt)
				}
				b.up()
				b.send([]byte("again"))
				b.taken(6, "the next driver is served")
			})
		}
	}
}

// requireAsleep fails if the thread never takes only a few turns in some time in which nothing happens.
func (b *bench) requireAsleep() {
	b.t.Helper()
	turns := func() (n uint64) {
		require.NoError(b.t, b.Do(0, func(t *Thread) { n = t.Stats().Turns }))
		return n
	}
	b.eventually(func() bool {
		before := turns()
		time.Sleep(100 * time.Millisecond)
		return turns()-before <= 5 // the looks cause some
	}, "the thread has nothing to do")
}

// A ring without a descriptor for kicks is looked at again and again, but never found to have more.
func TestAPolledRingWhoseBuffersAreTakenBackStaysWhole(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.fds[0].Kick, b.fds[1].Kick = -1, -1
	b.up()
	b.post(4)
	b.tx.Add(vqtest.Buf{GPA: b.mem.Alloc(64, 16), Len: 64})
	b.tx.Publish()
	b.taken(1, "no frame")
	b.takesBack(b.tx, b.rx)
	b.turn()
	b.turn()
	require.Equal(t, 1, b.port.count())
	require.Empty(t, b.Failed())
	require.Equal(t, netbackend.RingState{Connected: true, Transmit: true, Receive: true, Restarted: true}, b.state())
}

// While a thread lingers or pauses, it looks at indexes only.
func TestALoweredIndexEndsNoPauseAndNoLook(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	b.send([]byte("a"))
	b.taken(1, "no frame")
	require.NoError(t, b.Do(0, func(*Thread) {
		l := b.loops[0]
		takeAllBack(b.tx)
		l.starved = true
		require.False(t, l.spin())
		require.False(t, l.arm())
		for _, mode := range []sleepMode{coalesce, coalesceRX} {
			l.plan = sleepPlan{mode: mode, pause: minPause}
			l.turn(l.now())
			require.NoError(t, l.tx.q.Err())
		}
	}))
	require.Equal(t, 1, b.port.count())
}
