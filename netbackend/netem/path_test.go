package netem

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// way is a path with a clock and counters of a test.
type way struct {
	path
	now int64
	c   Counters
	l   Shared
}

func newWay(d Direction) *way {
	w := &way{now: 1e12}
	w.line, w.counters = &w.l.out, w.c.out()
	w.set(&d, seeded(7, 1), newStore(d.storeBytes()))
	return w
}

// numbered is a frame of n bytes with a number, behind an Ethernet header.
func numbered(i uint32, n int) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b[14:], i)
	return b
}

func (w *way) send(i uint32, n int) { w.enter(w.now, numbered(i, n)) }

// arrived is a frame that was there at a time.
type arrived struct {
	at     int64
	number uint32
	bytes  []byte
}

// take moves the clock, and returns what has come until then.
func (w *way) take(until int64) (all []arrived) {
	w.now = until
	for len(w.store.heap) > 0 && w.store.due() <= until {
		at := w.store.due()
		i := w.store.pop()
		b := append([]byte(nil), w.store.bytes(i)...)
		all = append(all, arrived{at, binary.BigEndian.Uint32(b[14:]), b})
		w.store.release(i)
	}
	return all
}

// all is all that comes ever.
func (w *way) all() []arrived { return w.take(math.MaxInt64 / 2) }

func TestARateIsExactWithinOnePercent(t *testing.T) {
	for _, rate := range []uint64{1_000, 59_200, 10_000_000, 1_000_000_000, 9_999_999_937, 100_000_000_000} {
		for _, n := range []int{60, 61, 1514, 65549} {
			w := newWay(Direction{Rate: rate, QueueBytes: 1 << 20})
			const frames = 1500
			var got []arrived
			begin := w.now
			for i := range uint32(frames) {
				for w.room(w.now, 1) == 0 || w.line.bytes.Load()+int64(n) > int64(w.d.queueBytes()) {
					got = append(got, w.take(max(w.waiting.next(), w.now))...)
				}
				w.send(i, n)
			}
			got = append(got, w.all()...)
			require.Len(t, got, frames)
			seconds := float64(got[frames-1].at-begin) / 1e9
			require.InEpsilon(t, float64(rate), frames*float64(n)*8/seconds, 0.01, "%d bit/s, frames of %d bytes", rate, n)
		}
	}
}

func TestABurstPassesAtOnceAndNoMore(t *testing.T) {
	w := newWay(Direction{Rate: 8_000_000, Burst: 10_000})
	for round := range 2 {
		begin := w.now
		for i := range uint32(20) {
			w.send(i, 1000)
		}
		for i, a := range w.take(begin + int64(time.Second)) {
			late := max(0, i+1-10) // a frame of 1000 bytes takes a millisecond
			require.Equal(t, begin+int64(late)*1e6, a.at, "frame %d of round %d", i, round)
		}
	}
}

func TestADelayIsExact(t *testing.T) {
	const delay = 40 * time.Millisecond
	w := newWay(Direction{Delay: delay})
	sent := map[uint32]int64{}
	var got []arrived
	for i := range uint32(2000) {
		got = append(got, w.take(w.now+int64(i%7)*123_457)...)
		sent[i] = w.now
		w.send(i, 100)
	}
	got = append(got, w.all()...)
	require.Len(t, got, 2000)
	for _, a := range got {
		require.InDelta(t, int64(delay), a.at-sent[a.number], 50e3)
	}
}

func TestJitterSpreadsDelaysEvenly(t *testing.T) {
	const delay, jitter, frames = 40e6, 5e6, 20_000
	w := newWay(Direction{Delay: delay, Jitter: jitter})
	var sum, least, most float64
	least = math.MaxFloat64
	for i := range uint32(frames) {
		begin := w.now
		w.send(i, 100)
		got := w.take(begin + int64(time.Second)) // alone, so that none waits for another one
		require.Len(t, got, 1)
		d := float64(got[0].at - begin)
		sum, least, most = sum+d, min(least, d), max(most, d)
	}
	require.InEpsilon(t, delay, sum/frames, 0.01)
	require.InDelta(t, delay-jitter, least, 50e3)
	require.InDelta(t, delay+jitter, most, 50e3)
}

// lossOf returns the share of frames that are lost, and how many are in a row on average.
func lossOf(t *testing.T, d Direction) (share, burst float64) {
	const frames = 400_000
	w := newWay(d)
	lost, runs := 0, 0
	before := false
	for i := range uint32(frames) {
		was := w.c.OutLost
		w.send(i, 60)
		w.take(w.now + 1000)
		if now := w.c.OutLost > was; now {
			lost++
			if !before {
				runs++
			}
			before = true
		} else {
			before = false
		}
	}
	require.EqualValues(t, lost, w.c.OutLost)
	return float64(lost) / frames, float64(lost) / float64(max(runs, 1))
}

func TestLossIsAsOftenAndAsLongAsItSays(t *testing.T) {
	for text, want := range map[string]struct{ share, burst float64 }{
		"loss=1%":                       {0.01, 1 / 0.99},
		"loss=30%":                      {0.30, 1 / 0.70},
		"loss=5%,loss-burst=4":          {0.05, 4},
		"loss=50%,loss-burst=10":        {0.50, 10},
		"gemodel=1%/20%":                {0.01 / 0.21, 5},
		"gemodel=2%/10%/50%/1%":         {(0.02*0.5 + 0.10*0.01) / 0.12, 0},
		"loss=100%":                     {1, 400_000},
		"loss=0.1%":                     {0.001, 1 / 0.999},
		"gemodel=100%/100%/100%/0%":     {0.5, 1},
		"loss=66.6666666%,loss-burst=2": {0.666666666, 2},
	} {
		t.Run(text, func(t *testing.T) {
			l, err := Parse(text)
			require.NoError(t, err)
			share, burst := lossOf(t, l.Out)
			require.InEpsilon(t, want.share, share, 0.08)
			if want.burst != 0 {
				require.InEpsilon(t, want.burst, burst, 0.05)
			}
		})
	}
}

func TestAShareOfFramesIsReordered(t *testing.T) {
	const frames, share = 100_000, 0.1
	w := newWay(Direction{Delay: 40e6, Reorder: whole / 10, ReorderBy: 5500e3})
	var got []arrived
	for i := range uint32(frames) {
		w.send(i, 60)
		got = append(got, w.take(w.now+1e6)...)
	}
	got = append(got, w.all()...)
	overtaken, highest := 0, uint32(0)
	for _, a := range got {
		if a.number < highest {
			overtaken++
			require.LessOrEqual(t, highest-a.number, uint32(5), "by the frames of so many milliseconds")
		}
		highest = max(highest, a.number)
	}
	require.InEpsilon(t, share*frames, w.c.OutReordered, 0.03)
	require.InEpsilon(t, float64(w.c.OutReordered), float64(overtaken), 0.01, "but a few whose successors are late, too")
}

func TestAShareOfFramesComesTwice(t *testing.T) {
	const frames, share = 50_000, 0.1
	w := newWay(Direction{Duplicate: whole / 10})
	copies := 0
	for i := range uint32(frames) {
		w.send(i, 60)
		got := w.take(w.now)
		copies += len(got) - 1
		for _, a := range got {
			require.Equal(t, numbered(i, 60), a.bytes)
		}
	}
	require.InEpsilon(t, share*frames, copies, 0.03)
	require.EqualValues(t, copies, w.c.OutDuplicated)
}

func TestAShareOfFramesIsCorrupted(t *testing.T) {
	const frames, share = 50_000, 0.1
	w := newWay(Direction{Corrupt: whole / 10})
	corrupt := 0
	for i := range uint32(frames) {
		w.send(i, 60)
		if string(w.take(w.now)[0].bytes) != string(numbered(i, 60)) {
			corrupt++
		}
	}
	require.InEpsilon(t, share*frames, corrupt, 0.03)
	require.EqualValues(t, corrupt, w.c.OutCorrupted)
}

func TestWhatIsCorruptDiffersByOneBit(t *testing.T) {
	w := newWay(Direction{Corrupt: whole})
	for i := range uint32(3000) {
		before := make([]byte, 60+i%1000)
		w.enter(w.now, before)
		bits := 0
		for at, b := range w.all()[0].bytes {
			if b != 0 {
				require.GreaterOrEqual(t, at, 14)
				require.Zero(t, b&(b-1))
				bits++
			}
		}
		require.Equal(t, 1, bits)
	}
	require.EqualValues(t, 3000, w.c.OutCorrupted)
}

// What is under way when the link changes is there when it would have been, and before what follows it.
func TestAChangeLeavesWhatIsUnderWay(t *testing.T) {
	w := newWay(Direction{Rate: 8_000_000, Delay: 100e6})
	begin := w.now
	for i := range uint32(50) {
		w.send(i, 1000)
	}
	for _, d := range []Direction{{Delay: 1e6}, {}, {Rate: 80_000_000, Delay: 50e6, Queue: 5000}} {
		w.set(&d, seeded(9, 1), w.spare(newStore(d.storeBytes())))
	}
	for i := range uint32(10) {
		w.send(50+i, 1000)
	}
	got := w.all()
	require.Len(t, got, 60)
	for i, a := range got {
		require.EqualValues(t, i, a.number)
		require.Equal(t, numbered(a.number, 1000), a.bytes)
		if i < 50 {
			require.Equal(t, begin+int64(i+1)*1e6+100e6, a.at)
		} else {
			require.Equal(t, begin+50*1e6+100e6, a.at, "what follows waits for what was before")
		}
	}
}

func TestTheSameSeedIsTheSameLink(t *testing.T) {
	run := func(seed uint64) (all []arrived) {
		w := newWay(Direction{Delay: 10e6, Jitter: 5e6, Loss: whole / 5, Duplicate: whole / 5, Reorder: whole / 5, Corrupt: whole / 5})
		d := w.d
		w.set(&d, seeded(seed, 1), nil)
		for i := range uint32(500) {
			w.send(i, 100)
			all = append(all, w.take(w.now+3e6)...)
		}
		return append(all, w.all()...)
	}
	require.Equal(t, run(1), run(1))
	require.NotEqual(t, run(1), run(2))
}

// drawDirection draws a direction that is right.
func drawDirection(t *rapid.T) (d Direction) {
	share := rapid.SampledFrom([]Share{0, 0, 0, 1, whole / 100, whole / 3, whole})
	d.Rate = rapid.SampledFrom([]uint64{0, 1_000, 1_000_000, 1_000_000_000}).Draw(t, "rate")
	d.Delay = time.Duration(rapid.Int64Range(0, 20e6).Draw(t, "delay"))
	d.Jitter = time.Duration(rapid.Int64Range(0, int64(d.Delay)).Draw(t, "jitter"))
	d.Loss, d.Duplicate, d.Reorder, d.Corrupt = share.Draw(t, "loss"), share.Draw(t, "duplicate"), share.Draw(t, "reorder"), share.Draw(t, "corrupt")
	if d.Rate != 0 {
		d.Queue = rapid.IntRange(1, 50).Draw(t, "queue")
		d.QueueBytes = rapid.IntRange(minQueueBytes, 40_000).Draw(t, "queue-bytes")
		d.Burst = rapid.IntRange(0, 20_000).Draw(t, "burst")
	}
	return d
}

func TestEachFrameComesOnceInOrderOrIsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDirection(t)
		if err := d.check(""); err != nil {
			t.Fatalf("%v", err)
		}
		w := newWay(d)
		var got []arrived
		sent := map[uint32]int{}
		count := rapid.IntRange(1, 300).Draw(t, "frames")
		for i := range uint32(count) {
			n := rapid.SampledFrom([]int{60, 100, 1514, 9000, 65549}).Draw(t, "length")
			sent[i] = n
			w.send(i, n)
			if b := w.line.bytes.Load(); b > int64(d.queueBytes()) || w.line.frames.Load() > int64(d.queue()) {
				t.Fatalf("the queue has %d frames of %d bytes", w.line.frames.Load(), b)
			}
			got = append(got, w.take(w.now+rapid.SampledFrom([]int64{0, 0, 1000, 3e6, 60e6}).Draw(t, "pause"))...)
		}
		got = append(got, w.all()...)
		c := &w.c
		if total := uint64(count) + c.OutDuplicated; total != uint64(len(got))+c.OutLost+c.OutQueueDrops+c.OutStoreDrops {
			t.Fatalf("%d frames and copies: %d came, and %+v", total, len(got), *c)
		}
		if d.Corrupt == 0 {
			checkFrames(t, &d, got, sent)
		}
		if w.leave(math.MaxInt64); w.line.frames.Load() != 0 || w.line.bytes.Load() != 0 {
			t.Fatalf("the queue is not empty in the end")
		}
	})
}

// checkFrames checks what has come of frames that were sent, without corruption.
func checkFrames(t *rapid.T, d *Direction, got []arrived, sent map[uint32]int) {
	times := map[uint32]int{}
	var at int64
	var last uint32
	for _, a := range got {
		if a.at < at {
			t.Fatalf("a frame came at %d, behind one at %d", a.at, at)
		}
		at = a.at
		if d.Reorder == 0 && a.number < last {
			t.Fatalf("frame %d came behind frame %d", a.number, last)
		}
		last = a.number
		if len(a.bytes) != sent[a.number] {
			t.Fatalf("frame %d has %d bytes, and was sent with %d", a.number, len(a.bytes), sent[a.number])
		}
		if times[a.number]++; times[a.number] > 1 && d.Duplicate == 0 || times[a.number] > 2 {
			t.Fatalf("frame %d came %d times", a.number, times[a.number])
		}
	}
}

func TestAStoreNeverGivesTheSameBytesTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(1000)
		s.memory = s.memory[:4<<10]
		held := map[int32]byte{}
		for step := range rapid.IntRange(100, 600).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "take") {
				i := s.take(rapid.IntRange(60, 700).Draw(t, "length"))
				if i == none {
					continue
				}
				held[i] = byte(step)
				for k := range s.bytes(i) {
					s.bytes(i)[k] = byte(step)
				}
				s.add(i, rapid.Int64Range(0, 1000).Draw(t, "due"))
			} else if len(s.heap) > 0 {
				i := s.pop()
				s.piece(i, 12)
				for _, b := range s.bytes(i) {
					if b != held[i] {
						t.Fatalf("another frame was written over frame %d", i)
					}
				}
				delete(held, i)
				s.release(i)
			}
			if s.held != len(held) {
				t.Fatalf("%d frames are held, and %d counted", len(held), s.held)
			}
		}
	})
}

func TestEnteringAndTakingAllocatesNothing(t *testing.T) {
	w := newWay(Direction{Rate: 1e9, Burst: 5000, Delay: 1e6, Jitter: 1e5, Loss: whole / 10, LossBurst: 3, Duplicate: whole / 10, Reorder: whole / 10, Corrupt: whole / 10})
	w.damages = shows
	frame := numbered(1, 1514)
	require.Zero(t, testing.AllocsPerRun(2000, func() {
		w.enter(w.now, frame)
		w.now += 20_000
		for len(w.store.heap) > 0 && w.store.due() <= w.now {
			w.store.release(w.store.pop())
		}
	}))
}

func TestQueuePairsShareTheRateAndTheQueue(t *testing.T) {
	one := newWay(Direction{Rate: 8_000_000, Queue: 20})
	other := newWay(one.d)
	other.line = one.line
	begin := one.now
	for i := range uint32(15) {
		one.send(i, 1000)
		other.send(i, 1000)
	}
	require.EqualValues(t, 10, one.c.OutQueueDrops+other.c.OutQueueDrops)
	require.EqualValues(t, 20, one.line.frames.Load())
	last := int64(0)
	for _, a := range append(one.all(), other.all()...) {
		last = max(last, a.at)
	}
	require.Equal(t, begin+20e6, last)
}
