package nat

import "math/bits"

const (
	// tick is the resolution of timers in nanoseconds. Deadlines are rounded up to it.
	tick      = int64(4e6)
	slotBits  = 8
	slots     = 1 << slotBits // of each of the two rings: about 1 s and 262 s
	slotMask  = slots - 1
	wordCount = slots / 64

	// dueSlot holds flows whose deadline has passed.
	dueSlot = 2 * slots
	// maxExpired is how many flows expire in one turn. Thousands are due at once when the clock has leapt: the process was stopped,
	// or the host is a machine that was. The rest follows in the next turns, between which the guest's frames have theirs.
	maxExpired = 256
)

// wheel holds the flows' timers: two rings of slots, one for the next second, one for the next minutes. Moving a
// deadline further away costs nothing: the slot is left, and when it comes round the flow is put where it belongs.
type wheel struct {
	flows *flowTable
	now   int64 // tick up to which all has expired, or stands in dueSlot
	head  [2*slots + 1]uint32
	used  [3][wordCount]uint64 // which slots of a ring hold flows; the last one is that of dueSlot
}

// set gives f the deadline at (nanoseconds), replacing the one before; 0 takes it away.
func (w *wheel) set(f *flow, at int64) {
	f.deadline = at
	if at == 0 {
		return // if it stands in a slot, it is dropped when that comes round
	}
	if f.timeSlot != 0 && w.slotTime(f) <= ticks(at) {
		return
	}
	w.unlink(f)
	w.link(f)
}

// remove takes f out of the wheel, before its record is freed.
func (w *wheel) remove(f *flow) {
	f.deadline = 0
	w.unlink(f)
}

// ticks rounds a time up, so that a timer is never early.
func ticks(at int64) int64 { return (at + tick - 1) / tick }

// slotTime returns the tick at which f's slot comes round.
func (w *wheel) slotTime(f *flow) int64 {
	slot := int64(f.timeSlot - 1)
	if slot == dueSlot {
		return w.now
	}
	if slot < slots {
		return w.now + (slot-w.now)&slotMask
	}
	coarse := w.now >> slotBits
	return (coarse + (slot-slots-coarse)&slotMask) << slotBits
}

func (w *wheel) link(f *flow) {
	at := max(ticks(f.deadline), w.now+1)
	slot := at & slotMask
	if at-w.now >= slots {
		// Coarse slots fire at their beginning; a deadline beyond the ring waits in the last one.
		coarse := min(at>>slotBits, w.now>>slotBits+slotMask)
		slot = slots + coarse&slotMask
	}
	w.put(f, slot)
}

// put adds f, which stands in no slot, to one.
func (w *wheel) put(f *flow, slot int64) {
	f.timeSlot = int32(slot + 1)
	f.timePrev, f.timeNext = none, w.head[slot]
	if f.timeNext != none {
		w.flows.at(f.timeNext).timePrev = f.index
	}
	w.head[slot] = f.index
	w.mark(slot, true)
}

func (w *wheel) unlink(f *flow) {
	if f.timeSlot == 0 {
		return
	}
	slot := int64(f.timeSlot - 1)
	if f.timePrev != none {
		w.flows.at(f.timePrev).timeNext = f.timeNext
	} else {
		w.head[slot] = f.timeNext
	}
	if f.timeNext != none {
		w.flows.at(f.timeNext).timePrev = f.timePrev
	}
	f.timeSlot = 0
	w.mark(slot, w.head[slot] != none)
}

func (w *wheel) mark(slot int64, on bool) {
	word := &w.used[slot>>slotBits][slot&slotMask/64]
	bit := uint64(1) << (slot & 63)
	if on {
		*word |= bit
	} else {
		*word &^= bit
	}
}

// advance moves the wheel to now (nanoseconds) and calls expired for each flow whose deadline has passed, after
// clearing it, but for no more than maxExpired. It reports whether there are more.
func (w *wheel) advance(now int64, expired func(*flow)) (more bool) {
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

// empty takes all flows out of a slot, and puts them where they belong.
func (w *wheel) empty(slot, now int64) {
	i := w.head[slot]
	w.head[slot] = none
	w.mark(slot, false)
	for i != none {
		f := w.flows.at(i)
		i = f.timeNext
		f.timeSlot = 0
		switch {
		case f.deadline == 0:
		case f.deadline <= now:
			w.put(f, dueSlot)
		default:
			w.link(f)
		}
	}
}

// expire calls expired for flows that are due. A deadline that was moved away since goes where it belongs.
func (w *wheel) expire(now int64, expired func(*flow)) {
	for n := 0; w.head[dueSlot] != none && n < maxExpired; n++ {
		f := w.flows.at(w.head[dueSlot])
		w.unlink(f)
		switch {
		case f.deadline == 0:
		case f.deadline <= now:
			f.deadline = 0
			expired(f)
		default:
			w.link(f)
		}
	}
}

// nextUsed returns the first tick after now at which a slot comes round that holds flows; far ahead if there is none.
func (w *wheel) nextUsed() int64 {
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

// next returns when the wheel wants to be advanced, in nanoseconds, 0 for never, if advance has left nothing.
func (w *wheel) next() int64 {
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
