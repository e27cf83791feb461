package audit

import (
	"sync/atomic"
	"time"
)

// Recorder takes entries of one guest. Several threads may record at once; one goroutine takes.
//
// It is a ring of slots, each with the number of the turn in which it may be filled or emptied: who records takes the next place by
// one compare-and-swap, fills it, and only then says so in the slot. A thread that is held up in between holds the reader up, and
// nobody else.
type Recorder struct {
	slots []slot
	mask  uint64
	wake  chan<- struct{}
	now   func() time.Time

	next atomic.Uint64 // the place that is taken next
	lost atomic.Uint64
	_    [48]byte // the reader's is not on the same cache line
	read uint64   // the place that is read next, which only the reader has
}

// slot is a place for an entry. Of turn n of the ring, turn is n*len(slots)+place if it is free, and one more if it is full.
type slot struct {
	turn  atomic.Uint64
	entry Entry
}

// NewRecorder returns a Recorder with room for at least room entries, which takes some 300 bytes each. wake gets a value, if it has
// room for one, for each entry that is recorded. now tells the time; nil is time.Now.
func NewRecorder(room int, wake chan<- struct{}, now func() time.Time) *Recorder {
	size := 2
	for size < room {
		size *= 2
	}
	if now == nil {
		now = time.Now
	}
	r := &Recorder{slots: make([]slot, size), mask: uint64(size - 1), wake: wake, now: now}
	for i := range r.slots {
		r.slots[i].turn.Store(uint64(i))
	}
	return r
}

// Record puts an entry into the queue, or counts that it had no room. It does not wait, and keeps what e points at. On a nil Recorder
// it does nothing.
func (r *Recorder) Record(e Entry) {
	if r == nil {
		return
	}
	for {
		at := r.next.Load()
		s := &r.slots[at&r.mask]
		turn := s.turn.Load()
		if turn == at && r.next.CompareAndSwap(at, at+1) {
			e.Time = r.now()
			e.Name, e.Detail = e.Name[:min(len(e.Name), MaxName)], e.Detail[:min(len(e.Detail), MaxName)]
			s.entry = e
			s.turn.Store(at + 1)
			r.notify()
			return
		}
		if turn < at {
			r.lost.Add(1)
			r.notify()
			return
		}
	}
}

// IsOn reports whether anybody takes what is recorded, for callers who would make an Entry at some cost.
func (r *Recorder) IsOn() bool { return r != nil }

func (r *Recorder) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Take moves entries into the array, the oldest first, and returns how many. It is for one goroutine at a time, and does not wait.
func (r *Recorder) Take(into []Entry) (n int) {
	for n < len(into) {
		s := &r.slots[r.read&r.mask]
		if s.turn.Load() != r.read+1 {
			break
		}
		into[n] = s.entry
		s.entry = Entry{} // its texts are nobody's any more
		s.turn.Store(r.read + uint64(len(r.slots)))
		r.read++
		n++
	}
	return n
}

// Lost returns how many entries there was no room for, ever.
func (r *Recorder) Lost() uint64 { return r.lost.Load() }

// Room returns how many entries fit.
func (r *Recorder) Room() int { return len(r.slots) }
