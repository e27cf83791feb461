package shard

import (
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

// Class is a kind of flow that may have to go for another one. An open connection is in none: it ends for its own reasons
// only.
type Class uint8

const (
	ClassNone         Class = iota
	ClassLingering          // connections that both sides have ended; they stand in no list, see lingerers
	ClassConnects           // the guest's connections that are not open yet, and what is left of those that were reset
	ClassCalls              // connections through forwards that the guest has not answered
	ClassAssociations       // the guest's UDP associations and series of pings
	ClassPeers              // UDP associations through forwards; they have no sockets of their own
	ClassStrangers          // ends that a mapping was let in from, and that the guest has not sent to; they have none either
	NumClasses
)

// maxStrangers is how many strangers may be let in at once.
const maxStrangers = 1024

// ClassLimit returns how many flows of a class the guest may have. So that one kind does not take the place of all others, that is
// a quarter of the table.
func (s *Shard) ClassLimit(c Class) int {
	n := max(s.Cfg.MaxFlows/4, 1)
	if c == ClassStrangers {
		return min(n, maxStrangers)
	}
	return n
}

// limit returns the limit that is hit when a flow of a class is given up.
func (c Class) limit() limits.Limit {
	return [NumClasses]limits.Limit{
		ClassLingering: limits.Lingering, ClassConnects: limits.Connects, ClassCalls: limits.Calls, ClassAssociations: limits.Associations,
		ClassPeers: limits.Peers, ClassStrangers: limits.Strangers,
	}[c]
}

// String returns what users are told of a class.
func (c Class) String() string {
	return [NumClasses]string{
		ClassLingering: "lingering connections", ClassConnects: "unanswered connects", ClassCalls: "unanswered calls", ClassAssociations: "associations",
		ClassPeers: "peers", ClassStrangers: "strangers",
	}[c]
}

// classList is a list of flows in the order of their last use.
type classList struct {
	first, last uint32
	count       atomic.Int32 // other queue pairs read it
}

// JoinClass puts f, which stands in no class, at the end of c.
func (s *Shard) JoinClass(f *Flow, c Class) {
	s.pushBack(f, c)
	s.classes[c].count.Add(1)
}

// LeaveClass takes f out of its class, if it stands in one.
func (s *Shard) LeaveClass(f *Flow) {
	if f.Class != ClassNone {
		s.classes[f.Class].count.Add(-1)
		s.unlink(f)
	}
}

func (s *Shard) pushBack(f *Flow, c Class) {
	l := &s.classes[c]
	f.Class, f.classPrev, f.classNext = c, l.last, none
	if l.last == none {
		l.first = f.Index
	} else {
		s.Flows.At(l.last).classNext = f.Index
	}
	l.last = f.Index
}

func (s *Shard) unlink(f *Flow) {
	l := &s.classes[f.Class]
	if f.classPrev == none {
		l.first = f.classNext
	} else {
		s.Flows.At(f.classPrev).classNext = f.classNext
	}
	if f.classNext == none {
		l.last = f.classPrev
	} else {
		s.Flows.At(f.classNext).classPrev = f.classPrev
	}
	f.Class = ClassNone
}

// Touch notes that f, which stands in a class, was used now.
func (s *Shard) Touch(f *Flow) {
	c := f.Class
	if s.classes[c].last == f.Index {
		return
	}
	s.unlink(f)
	s.pushBack(f, c)
}

// Admit makes room for a flow of the class c with a socket of its own. If there are too many of its kind, the one goes
// that was idle longest, of the queue pair that has most. If the table or the guest's share of descriptors is used up, that of
// the largest class goes, which is the one that floods. False means that there is no room: nothing but open connections is left, or
// another pair has yet to give up a flow, as it is asked to.
func (t *Turn) Admit(c Class) bool { return t.AdmitFlow(c) && t.AdmitSocket() }

// AdmitFlow is admit for a flow that needs no socket.
func (t *Turn) AdmitFlow(c Class) bool {
	t.EnforceLimit(c)
	for t.Flows.Full() {
		if !t.Evict(t.largestClass(ClassConnects, ClassStrangers)) {
			t.evictUnderPressure(ClassConnects, ClassStrangers)
			t.OverLimit(limits.Flows)
			return false
		}
	}
	return true
}

// EnforceLimit makes room for one more flow of a class.
func (t *Turn) EnforceLimit(c Class) { t.evictDownTo(c, t.ClassLimit(c)-1) }

// evictDownTo lets the guest have no more than most flows of a class: those of the queue pair that has most go. If that is another
// pair, it goes on in its own turn. Until then there are too many; so there are, by one for each pair, if several make room
// at the same time.
func (t *Turn) evictDownTo(c Class, most int) {
	for t.ClassSize(c) > most {
		if q, _ := t.largestShard(c, c); q != &t.Shard {
			q.mailbox.put(func(m *mail) { m.OverLimit |= 1 << c })
			return
		}
		if !t.Evict(c) {
			return
		}
	}
}

// ClassSize returns how many flows of a class the guest has.
func (s *Shard) ClassSize(c Class) (n int) {
	for _, q := range s.Pairs.shards {
		n += int(q.classes[c].count.Load())
	}
	return n
}

// largestShard returns the queue pair that has the largest of the classes from first to last, and which one that is.
func (s *Shard) largestShard(first, last Class) (*Shard, Class) {
	q, c := s, s.largestClass(first, last)
	for _, other := range s.Pairs.shards {
		if k := other.largestClass(first, last); other.classes[k].count.Load() > q.classes[c].count.Load() {
			q, c = other, k
		}
	}
	return q, c
}

// evictUnderPressure has another queue pair give up a flow of the largest of the classes from first to last: this one has none.
func (s *Shard) evictUnderPressure(first, last Class) {
	if q, c := s.largestShard(first, last); q != s {
		q.mailbox.put(func(m *mail) { m.UnderPressure |= 1 << c })
	}
}

// EvictRequested gives up what other pairs have asked for: both arguments have a bit for each class.
func (t *Turn) EvictRequested(overLimit, underPressure uint) {
	for c := ClassNone + 1; c < NumClasses; c++ {
		if underPressure>>c&1 != 0 {
			t.Evict(c)
		}
		if overLimit>>c&1 != 0 {
			t.evictDownTo(c, t.ClassLimit(c))
		}
	}
}

// AdmitSocket is Admit for a socket of a flow that has its place.
func (t *Turn) AdmitSocket() bool {
	for t.Sockets() >= t.MaxSockets() {
		if !t.Evict(t.largestClass(ClassLingering, ClassAssociations)) {
			t.evictUnderPressure(ClassLingering, ClassAssociations)
			t.OverLimit(limits.Sockets)
			return false
		}
	}
	return true
}

// AdmitPeer is admit for a datagram of a stranger's that came by a forward. It may take the place of another stranger, and
// of nobody else. No frame is sent: the datagram has its place in the guest's receive ring already.
func (t *Turn) AdmitPeer() bool {
	t.EnforceLimit(ClassPeers)
	if t.Flows.Full() && !t.Evict(ClassPeers) {
		t.OverLimit(limits.Flows)
		return false
	}
	return true
}

// largestClass returns the largest of this pair's classes from first to last. Any pair may call it.
func (s *Shard) largestClass(first, last Class) Class {
	found := first
	for c := first + 1; c <= last; c++ {
		if s.classes[c].count.Load() > s.classes[found].count.Load() {
			found = c
		}
	}
	return found
}

// Sockets returns how many sockets the guest's flows and mappings have, and CountSockets takes note of n more of them.
func (s *Shard) Sockets() int { return int(s.Flows.sockets.Load()) }

// CountSockets takes note of n more sockets.
func (s *Shard) CountSockets(n int32) { s.Flows.sockets.Add(n) }

// MaxSockets is how many sockets the guest's flows may have, be they of one or mappings. Forwards have the others.
func (s *Shard) MaxSockets() int { return s.Cfg.MaxSockets - int(s.Pairs.OfForwards.Load()) }

// Evict gives up the flow of a class that was idle longest, and tells whether there was one. If that is a connection, both
// sides learn it by a reset.
func (t *Turn) Evict(c Class) bool {
	if t.classes[c].count.Load() == 0 {
		return false
	}
	t.OverLimit(c.limit())
	if c == ClassLingering {
		t.evictLingering()
		return true
	}
	f := t.Flows.At(t.classes[c].first)
	t.keepEvicted(c.limit(), f)
	t.Hooks.Evicted(t, f)
	return true
}
