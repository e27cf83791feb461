package nat

// beginReading lets others know that this thread may look at any record from now on, endReading that it does not any more. In between
// is a turn of one of several queue pairs.
func (s *shard) beginReading() {
	s.turns.Add(1)
	s.recycle()
}
func (s *shard) endReading() { s.turns.Add(1) }

// retirement keeps records of flows that are over until no other thread can be looking at them.
type retirement struct {
	limbo []uint32 // those that were unlinked since
	grace []uint32 // those that wait
	turns [maxPairs]uint64
}

// retire frees the record of a flow that is over, as soon as all turns in which a lookup may have found it have ended.
func (s *shard) retire(f *flow) {
	if s.alone() {
		s.release(f)
		return
	}
	if f.bits&leaving != 0 {
		s.pairs.shards[f.to].wake() // who asked for it waits
	}
	s.retired.limbo = append(s.retired.limbo, f.index)
}

// recycle frees what has waited long enough, and lets the next ones wait.
func (s *shard) recycle() {
	r := &s.retired
	if len(r.grace) > 0 && s.graceOver() {
		for _, i := range r.grace {
			s.release(s.flows.at(i))
		}
		r.grace = r.grace[:0]
	}
	if len(r.grace) > 0 || len(r.limbo) == 0 {
		return
	}
	r.grace, r.limbo = r.limbo, r.grace
	for i, q := range s.pairs.shards {
		r.turns[i] = q.turns.Load()
	}
}

// graceOver tells whether every turn of another pair that had begun before has ended.
func (s *shard) graceOver() bool {
	for i, q := range s.pairs.shards {
		during := s.retired.turns[i]&1 != 0
		if q != s && during && q.turns.Load() == s.retired.turns[i] {
			return false
		}
	}
	return true
}

// release frees the record of a flow, which nobody can be looking at.
func (s *shard) release(f *flow) {
	s.hooks.released(f)
	s.flows.Release(f.index)
}
