package shard

// runList is a list of flows that have something to do, in the order in which they get their turn.
type runList struct {
	first, last uint32
	count       int
}

// Push appends f, unless it stands in a list already.
func (l *runList) Push(t *Table, f *Flow) {
	if f.Bits&onRunList != 0 {
		return
	}
	f.Bits |= onRunList
	f.runNext = none
	if l.first == none {
		l.first = f.Index
	} else {
		t.At(l.last).runNext = f.Index
	}
	l.last = f.Index
	l.count++
}

// pop takes the first flow out of the list.
func (l *runList) pop(t *Table) *Flow {
	f := t.At(l.first)
	l.first = f.runNext
	l.count--
	f.Bits &^= onRunList
	return f
}

// move appends all of other, and empties it.
func (l *runList) move(t *Table, other *runList) {
	if other.first == none {
		return
	}
	if l.first == none {
		l.first = other.first
	} else {
		t.At(l.last).runNext = other.first
	}
	l.last = other.last
	l.count += other.count
	*other = runList{}
}

// Outcome is how the service of a flow ended.
type Outcome uint8

const (
	Idle      Outcome = iota // nothing is left to do
	Again                    // its share of this turn is used up
	NoBuffers                // the guest's receive ring had no room
)

// HasWork reports whether flows wait for their turn.
func (s *Shard) HasWork() bool { return s.run.count > 0 }

// Schedule gives a flow of this shard a turn, unless it waits for one already.
func (s *Shard) Schedule(f *Flow) {
	if f.Bits&onRunList == 0 { // which the caller asks without a call, for most often it waits
		s.enqueue(f)
	}
}

// enqueue appends a flow to the run list.
func (s *Shard) enqueue(f *Flow) { s.run.Push(s.Flows, f) }

// FlowsToServe returns how many flows are to have their turn now, and NextFlow the next of them, to whose host goes what is made.
// EndServing is called after the last one.
func (t *Turn) FlowsToServe() int {
	if t.rxBlocked.count > 0 {
		t.unblock()
	}
	return t.run.count
}

// NextFlow takes the next flow from the run list. What is made goes to its host.
func (t *Turn) NextFlow() *Flow {
	f := t.run.pop(t.Flows)
	t.To = f.Host
	return f
}

// EndServing is called when all have had their turn.
func (t *Turn) EndServing() {
	if t.rxBlocked.count > 0 {
		t.RX.Starve()
	}
}

// Block lets a flow wait for receive buffers of the guest, and unblock gives those that wait a turn if there are any.
func (t *Turn) Block(f *Flow) { t.rxBlocked.Push(t.Flows, f) }

func (t *Turn) unblock() {
	if t.RX.Available() {
		t.run.move(t.Flows, &t.rxBlocked)
	}
}
