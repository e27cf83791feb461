package timerwheel

import (
	"math/bits"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
)

const (
	// tick is the resolution of timers in nanoseconds. Deadlines are rounded up to it.
	tick      = int64(4e6)
	slotBits  = 8
	slots     = 1 << slotBits // of each of the two rings: about 1 s and 262 s
	slotMask  = slots - 1
	wordCount = slots / 64

	// dueSlot holds timers whose deadline has passed.
	dueSlot = 2 * slots
	// maxExpired is how many timers expire at once. Thousands are due at once when the clock has leapt: the process was stopped,
	// or the host is a machine that was. The rest follows with the next calls, between which the caller does other work.
	maxExpired = 256

	none = flowtable.None
)

// timer is that of an index.
type timer struct {
	deadline   int64  // when it expires, 0 for never; the wheel may hold it earlier, never later
	prev, next uint32 // chain of the slot
	slot       int32  // slot + 1 in the wheel, 0 for none
}

// Timers are those of all indices of a table. All wheels for the table have the same.
type Timers struct{ of flowtable.Slab[timer] }

// NewTimers returns the timers of a table's indices.
func NewTimers(t *flowtable.Table) Timers { return Timers{flowtable.NewSlab[timer](t)} }

// Make makes the timer of a new index, which stands in no wheel.
func (s Timers) Make(i uint32) { s.of.Make(i) }

// Wheel holds timers: two rings of slots, one for the next second, one for the next minutes. Moving a deadline further away costs
// nothing: the slot is left, and when it comes round the timer is put where it belongs.
type Wheel struct {
	timers Timers
	now    int64 // tick up to which all has expired, or stands in dueSlot
	head   [2*slots + 1]uint32
	used   [3][wordCount]uint64 // which slots of a ring hold timers; the last one is that of dueSlot
}

// New returns a wheel that holds none of the timers yet.
func New(timers Timers) Wheel { return Wheel{timers: timers} }

func (w *Wheel) at(i uint32) *timer { return w.timers.of.At(i) }

// Deadline returns when an index expires, 0 for never.
func (w *Wheel) Deadline(i uint32) int64 { return w.at(i).deadline }

// Set gives an index the deadline at (nanoseconds), replacing the one before; 0 takes it away.
func (w *Wheel) Set(i uint32, at int64) {
	f := w.at(i)
	f.deadline = at
	if at == 0 {
		return // if it stands in a slot, it is dropped when that comes round
	}
	if f.slot != 0 && w.slotTime(f) <= ticks(at) {
		return
	}
	w.unlink(f)
	w.link(i, f)
}

// Remove takes an index out of the wheel, before it is freed.
func (w *Wheel) Remove(i uint32) {
	f := w.at(i)
	f.deadline = 0
	w.unlink(f)
}

// Leave takes an index out of the wheel that keeps its deadline for another one, which it is to Join.
func (w *Wheel) Leave(i uint32) { w.unlink(w.at(i)) }

// Join takes an index that has left another wheel.
func (w *Wheel) Join(i uint32) { w.Set(i, w.Deadline(i)) }

// ticks rounds a time up, so that a timer is never early.
func ticks(at int64) int64 { return (at + tick - 1) / tick }

// slotTime returns the tick at which f's slot comes round.
func (w *Wheel) slotTime(f *timer) int64 {
	slot := int64(f.slot - 1)
	if slot == dueSlot {
		return w.now
	}
	if slot < slots {
		return w.now + (slot-w.now)&slotMask
	}
	coarse := w.now >> slotBits
	return (coarse + (slot-slots-coarse)&slotMask) << slotBits
}

func (w *Wheel) link(i uint32, f *timer) {
	at := max(ticks(f.deadline), w.now+1)
	slot := at & slotMask
	if at-w.now >= slots {
		// Coarse slots fire at their beginning; a deadline beyond the ring waits in the last one.
		coarse := min(at>>slotBits, w.now>>slotBits+slotMask)
		slot = slots + coarse&slotMask
	}
	w.put(i, f, slot)
}

// put adds the timer f of index i, which stands in no slot, to one.
func (w *Wheel) put(i uint32, f *timer, slot int64) {
	f.slot = int32(slot + 1)
	f.prev, f.next = none, w.head[slot]
	if f.next != none {
		w.at(f.next).prev = i
	}
	w.head[slot] = i
	w.mark(slot, true)
}

func (w *Wheel) unlink(f *timer) {
	if f.slot == 0 {
		return
	}
	slot := int64(f.slot - 1)
	if f.prev != none {
		w.at(f.prev).next = f.next
	} else {
		w.head[slot] = f.next
	}
	if f.next != none {
		w.at(f.next).prev = f.prev
	}
	f.slot = 0
	w.mark(slot, w.head[slot] != none)
}

func (w *Wheel) mark(slot int64, on bool) {
	word := &w.used[slot>>slotBits][slot&slotMask/64]
	bit := uint64(1) << (slot & 63)
	if on {
		*word |= bit
	} else {
		*word &^= bit
	}
}

// Advance moves the wheel to now (nanoseconds) and calls expired for each index whose deadline has passed, after clearing it, but
// for no more than maxExpired. It reports whether there are more. expired may set and remove any of them.
func (w *Wheel) Advance(now int64, expired func(i uint32)) (more bool) {
	to := now / tick
	if to-w.now > slots*slots {
		w.now = to - slots*slots // each slot is looked at once, which is enough
	}
	for w.now < to {
		step := min(to, w.nextUsed())
		w.now = step
		if w.now&slotMask == 0 {
			w.empty(slots+(w.now>>slotBits)&slotMask, now)
		}
		w.empty(w.now&slotMask, now)
	}
	if w.head[dueSlot] != none {
		w.expire(now, expired)
	}
	return w.head[dueSlot] != none
}

// empty takes all timers out of a slot, and puts them where they belong.
func (w *Wheel) empty(slot, now int64) {
	i := w.head[slot]
	w.head[slot] = none
	w.mark(slot, false)
	for i != none {
		f, next := w.at(i), w.at(i).next
		f.slot = 0
		switch {
		case f.deadline == 0:
		case f.deadline <= now:
			w.put(i, f, dueSlot)
		default:
			w.link(i, f)
		}
		i = next
	}
}

// expire calls expired for indices that are due. A deadline that was moved away since goes where it belongs.
func (w *Wheel) expire(now int64, expired func(uint32)) {
	for n := 0; w.head[dueSlot] != none && n < maxExpired; n++ {
		i := w.head[dueSlot]
		f := w.at(i)
		w.unlink(f)
		switch {
		case f.deadline == 0:
		case f.deadline <= now:
			f.deadline = 0
			expired(i)
		default:
			w.link(i, f)
		}
	}
}

// nextUsed returns the first tick after now at which a slot comes round that holds timers; far ahead if there is none.
func (w *Wheel) nextUsed() int64 {
	const never = int64(1) << 60
	next := never
	if d := distance(&w.used[0], w.now); d > 0 {
		next = w.now + d
	}
	coarse := w.now >> slotBits
	if d := distance(&w.used[1], coarse); d > 0 {
		next = min(next, (coarse+d)<<slotBits)
	}
	return next
}

// Next returns when the wheel wants to be advanced, in nanoseconds, 0 for never, if Advance has left nothing.
func (w *Wheel) Next() int64 {
	n := w.nextUsed()
	if n >= int64(1)<<59 {
		return 0
	}
	return n * tick
}

// distance returns how many slots after from the next used one comes, 1 to slots, or 0 if none is used.
func distance(used *[wordCount]uint64, from int64) int64 {
	start := (from + 1) & slotMask
	for i := int64(0); i <= wordCount; i++ {
		word := (start/64 + i) % wordCount
		v := used[word]
		if i == 0 {
			v &= ^uint64(0) << (start & 63)
		} else if i == wordCount {
			v &^= ^uint64(0) << (start & 63)
		}
		if v != 0 {
			slot := word*64 + int64(bits.TrailingZeros64(v))
			return (slot-start)&slotMask + 1
		}
	}
	return 0
}
