package shard

// BeginReading lets others know that this thread may look at any record from now on, EndReading that it does not any more. In between
// is a turn of one of several queue pairs.
func (s *Shard) BeginReading() {
	s.turns.Add(1)
	s.recycle()
}

// EndReading lets others know that this thread looks at no record any more.
func (s *Shard) EndReading() { s.turns.Add(1) }

// retirement keeps records of flows that are over until no other thread can be looking at them.
type retirement struct {
	limbo []uint32 // those that were unlinked since
	grace []uint32 // those that wait
	turns [MaxPairs]uint64
}

// Retire frees the record of a flow that is over, as soon as all turns in which a lookup may have found it have ended.
func (s *Shard) Retire(f *Flow) {
	if s.Alone() {
		s.release(f)
		return
	}
	if f.Bits&leaving != 0 {
		s.Pairs.shards[f.moveTo].Wake() // who asked for it waits
	}
	s.retired.limbo = append(s.retired.limbo, f.Index)
}

// recycle frees what has waited long enough, and lets the next ones wait.
func (s *Shard) recycle() {
	r := &s.retired
	if len(r.grace) > 0 && s.graceOver() {
		for _, i := range r.grace {
			s.release(s.Flows.At(i))
		}
		r.grace = r.grace[:0]
	}
	if len(r.grace) > 0 || len(r.limbo) == 0 {
		return
	}
	r.grace, r.limbo = r.limbo, r.grace
	for i, q := range s.Pairs.shards {
		r.turns[i] = q.turns.Load()
	}
}

// graceOver tells whether every turn of another pair that had begun before has ended.
func (s *Shard) graceOver() bool {
	for i, q := range s.Pairs.shards {
		during := s.retired.turns[i]&1 != 0
		if q != s && during && q.turns.Load() == s.retired.turns[i] {
			return false
		}
	}
	return true
}

// release frees the record of a flow, which nobody can be looking at.
func (s *Shard) release(f *Flow) {
	s.Hooks.Released(f)
	s.Flows.Release(f.Index)
}
