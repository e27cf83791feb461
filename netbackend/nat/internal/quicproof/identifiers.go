package quicproof

import (
	"hash/maphash"
	"sync"
)

const (
	// maxSeen is how many identifiers of connections are remembered. Beyond them no connection is allowed until one is forgotten: a guest
	// that could have one forgotten could use it again.
	maxSeen = 1 << 16
	// memory is how long each is remembered, in nanoseconds. Servers wait no longer for the rest of a hello.
	memory = int64(90e9)
)

// identifiers are those by which connections have begun that were allowed lately. They are safe for use by several threads.
type identifiers struct {
	mu    sync.Mutex
	seed  maphash.Seed
	known map[uint64]struct{} // by their hash
	order []seen              // the oldest is at first
	first int
}

// seen is an identifier that is remembered until a time.
type seen struct {
	hash  uint64
	until int64
}

func (s *identifiers) init() { s.seed, s.known = maphash.MakeSeed(), map[uint64]struct{}{} }

// claim remembers an identifier, and reports whether it was not remembered before, and there was room.
func (s *identifiers) claim(id []byte, now int64) bool {
	hash := maphash.Bytes(s.seed, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	if _, is := s.known[hash]; is || len(s.known) == maxSeen {
		return false
	}
	s.known[hash] = struct{}{}
	s.order = append(s.order, seen{hash, now + memory})
	return true
}

// forget forgets identifiers whose time is over.
func (s *identifiers) forget(now int64) {
	for s.first < len(s.order) && s.order[s.first].until <= now {
		delete(s.known, s.order[s.first].hash)
		s.first++
	}
	if s.first > len(s.order)/2 {
		s.order = append(s.order[:0], s.order[s.first:]...)
		s.first = 0
	}
}
