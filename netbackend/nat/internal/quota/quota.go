package quota

import (
	"sync"
	"sync/atomic"
)

// Quota is how much of something all guests of a process may hold together. It is made before the guests, and is safe for use by all
// threads.
type Quota struct {
	all int // for all guests
	one int // for one guest at most

	mu   sync.Mutex
	held int
}

// New returns a quota of which all guests may hold so much, and one guest at most so much.
func New(all, one int) *Quota { return &Quota{all: all, one: one} }

// Stake is what one guest holds of a quota. It is safe for use by all threads.
type Stake struct {
	of   *Quota
	held atomic.Int64 // written under of.mu
}

// Stake returns what a guest holds that has nothing yet.
func (q *Quota) Stake() *Stake { return &Stake{of: q} }

// Take takes one more, and reports whether there is one. A guest may hold as many as are free: then however many others hold
// all that they can, there are some for one that has none yet.
func (s *Stake) Take() bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if int(s.held.Load()) >= min(s.of.one, s.of.all-s.of.held) {
		return false
	}
	s.held.Add(1)
	s.of.held++
	return true
}

// Give gives one back.
func (s *Stake) Give() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.held.Add(-1)
	s.of.held--
}

// Used returns how many the guest holds, and may hold at most. Nobody waits for who asks.
func (s *Stake) Used() (held, most int) { return int(s.held.Load()), s.of.one }
