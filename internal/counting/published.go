package counting

import "sync/atomic"

// Published is a set of counters that their owner copies now and then for others to read. A reader gets all of them as they
// were at one moment, and never waits for the owner: while one copy is being written, the one before is whole.
type Published struct {
	begun, done atomic.Uint64 // how many copies were begun, and are whole
	copies      [2][]atomic.Uint64
}

// readTries bounds how often a copy is read anew. Reading takes a microsecond, and it must be done again if the owner has
// completed one copy and begun another meanwhile. Owners do that ten times a second.
const readTries = 1000

// NewPublished returns a set of n counters, all of them zero.
func NewPublished(n int) *Published {
	return &Published{copies: [2][]atomic.Uint64{make([]atomic.Uint64, n), make([]atomic.Uint64, n)}}
}

// Publish makes words, one for each counter, what others read from now on. It is for the owner alone.
func (p *Published) Publish(words []uint64) {
	n := p.begun.Add(1)
	into := p.copies[n%2]
	for i, w := range words {
		into[i].Store(w)
	}
	p.done.Store(n)
}

// Read sets words to the counters that were published last. Anybody may call it at any time. It reports whether words are
// whole: they are not if the owner published again and again meanwhile.
func (p *Published) Read(words []uint64) (whole bool) {
	for range readTries {
		if p.try(words) {
			return true
		}
	}
	return false
}

func (p *Published) try(words []uint64) (whole bool) {
	n := p.done.Load()
	from := p.copies[n%2]
	for i := range words {
		words[i] = from[i].Load()
	}
	return p.isWhole(n)
}

// isWhole reports whether copy n has not been written over: the copy after the next one takes its place.
func (p *Published) isWhole(n uint64) bool { return p.begun.Load() <= n+1 }
