package nat

// hasWork reports whether flows wait for their turn.
func (s *shard) hasWork() bool { return s.run.count > 0 }

// schedule gives a flow of this shard a turn, unless it waits for one already.
func (s *shard) schedule(f *flow) {
	if f.bits&onRunList == 0 { // which the caller asks without a call, for most often it waits
		s.enqueue(f)
	}
}

// enqueue appends a flow to the run list.
func (s *shard) enqueue(f *flow) { s.run.push(s.flows, f) }

// flowsToServe returns how many flows are to have their turn now, and nextFlow the next of them, to whose host goes what is made.
// endServing is called after the last one.
func (t *turn) flowsToServe() int {
	if t.starved.count > 0 {
		t.unblock()
	}
	return t.run.count
}

func (t *turn) nextFlow() *flow {
	f := t.run.pop(t.flows)
	t.to = f.host
	return f
}

func (t *turn) endServing() {
	if t.starved.count > 0 {
		t.rx.Starve()
	}
}

// block lets a flow wait for receive buffers of the guest, and unblock gives those that wait a turn if there are any.
func (t *turn) block(f *flow) { t.starved.push(t.flows, f) }

func (t *turn) unblock() {
	if t.rx.Available() {
		t.run.move(t.flows, &t.starved)
	}
}
