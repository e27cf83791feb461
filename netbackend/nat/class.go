package nat

import (
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

// flowClass is a kind of flow that may have to go for another one. An open connection is in none: it ends for its own reasons
// only.
type flowClass uint8

const (
	classNone         flowClass = iota
	classConnects               // the guest's connections that are not open yet, and what is left of those that were reset
	classCalls                  // connections through forwards that the guest has not answered
	classAssociations           // the guest's UDP associations and series of pings
	classPeers                  // UDP associations through forwards; they have no sockets of their own
	classStrangers              // ends that a mapping was let in from, and that the guest has not sent to; they have none either
	classes
)

// maxStrangers is how many strangers may be let in at once.
const maxStrangers = 1024

// classLimit returns how many flows of a class the guest may have. So that one kind does not take the place of all others, that is
// a quarter of the table.
func (s *shard) classLimit(c flowClass) int {
	n := max(s.cfg.MaxFlows/4, 1)
	if c == classStrangers {
		return min(n, maxStrangers)
	}
	return n
}

// limit returns the limit that is hit when a flow of a class is given up.
func (c flowClass) limit() limits.Limit {
	return [classes]limits.Limit{
		classConnects: limits.Connects, classCalls: limits.Calls, classAssociations: limits.Associations,
		classPeers: limits.Peers, classStrangers: limits.Strangers,
	}[c]
}

func (c flowClass) String() string {
	return [classes]string{
		classConnects: "unanswered connects", classCalls: "unanswered calls", classAssociations: "associations",
		classPeers: "peers", classStrangers: "strangers",
	}[c]
}

// flowList is a list of flows in the order of their last use.
type flowList struct {
	first, last uint32
	count       atomic.Int32 // other queue pairs read it
}

// joinClass puts f, which stands in no class, at the end of c.
func (s *shard) joinClass(f *flow, c flowClass) {
	s.pushBack(f, c)
	s.classes[c].count.Add(1)
}

// leaveClass takes f out of its class, if it stands in one.
func (s *shard) leaveClass(f *flow) {
	if f.class != classNone {
		s.classes[f.class].count.Add(-1)
		s.unlink(f)
	}
}

func (s *shard) pushBack(f *flow, c flowClass) {
	l := &s.classes[c]
	f.class, f.classPrev, f.classNext = c, l.last, none
	if l.last == none {
		l.first = f.index
	} else {
		s.flows.at(l.last).classNext = f.index
	}
	l.last = f.index
}

func (s *shard) unlink(f *flow) {
	l := &s.classes[f.class]
	if f.classPrev == none {
		l.first = f.classNext
	} else {
		s.flows.at(f.classPrev).classNext = f.classNext
	}
	if f.classNext == none {
		l.last = f.classPrev
	} else {
		s.flows.at(f.classNext).classPrev = f.classPrev
	}
	f.class = classNone
}

// touch notes that f, which stands in a class, was used now.
func (s *shard) touch(f *flow) {
	c := f.class
	if s.classes[c].last == f.index {
		return
	}
	s.unlink(f)
	s.pushBack(f, c)
}

// admit makes room for a flow of the class c with a socket of its own. If there are too many of its kind, the one goes
// that was idle longest, of the queue pair that has most. If the table or the guest's share of descriptors is used up, that of
// the largest class goes, which is the one that floods. False means that there is no room: nothing but open connections is left, or
// another pair has yet to give up a flow, as it is asked to.
func (t *turn) admit(c flowClass) bool { return t.admitFlow(c) && t.admitSocket() }

// admitFlow is admit for a flow that needs no socket.
func (t *turn) admitFlow(c flowClass) bool {
	t.enforceLimit(c)
	for t.flows.Full() {
		if !t.evict(t.largestClass(classConnects, classStrangers)) {
			t.evictUnderPressure(classStrangers)
			t.hit(limits.Flows)
			return false
		}
	}
	return true
}

// enforceLimit makes room for one more flow of a class.
func (t *turn) enforceLimit(c flowClass) { t.evictDownTo(c, t.classLimit(c)-1) }

// evictDownTo lets the guest have no more than most flows of a class: those of the queue pair that has most go. If that is another
// pair, it goes on in its own turn. Until then there are too many; so there are, by one for each pair, if several make room
// at the same time.
func (t *turn) evictDownTo(c flowClass, most int) {
	for t.classSize(c) > most {
		if q, _ := t.largestShard(c, c); q != &t.shard {
			q.mailbox.put(func(m *mail) { m.overLimit |= 1 << c })
			return
		}
		if !t.evict(c) {
			return
		}
	}
}

// classSize returns how many flows of a class the guest has.
func (s *shard) classSize(c flowClass) (n int) {
	for _, q := range s.pairs.shards {
		n += int(q.classes[c].count.Load())
	}
	return n
}

// largestShard returns the queue pair that has the largest of the classes from first to last, and which one that is.
func (s *shard) largestShard(first, last flowClass) (*shard, flowClass) {
	q, c := s, s.largestClass(first, last)
	for _, other := range s.pairs.shards {
		if k := other.largestClass(first, last); other.classes[k].count.Load() > q.classes[c].count.Load() {
			q, c = other, k
		}
	}
	return q, c
}

// evictUnderPressure has another queue pair give up a flow of the largest of the classes up to last: this one has none.
func (s *shard) evictUnderPressure(last flowClass) {
	if q, c := s.largestShard(classConnects, last); q != s {
		q.mailbox.put(func(m *mail) { m.underPressure |= 1 << c })
	}
}

// evictRequested gives up what other pairs have asked for: both arguments have a bit for each class.
func (t *turn) evictRequested(overLimit, underPressure uint) {
	for c := classConnects; c < classes; c++ {
		if underPressure>>c&1 != 0 {
			t.evict(c)
		}
		if overLimit>>c&1 != 0 {
			t.evictDownTo(c, t.classLimit(c))
		}
	}
}

func (t *turn) admitSocket() bool {
	for t.sockets() >= t.maxSockets() {
		if !t.evict(t.largestClass(classConnects, classAssociations)) {
			t.evictUnderPressure(classAssociations)
			t.hit(limits.Sockets)
			return false
		}
	}
	return true
}

// admitPeer is admit for a datagram of a stranger's that came by a forward. It may take the place of another stranger, and
// of nobody else. No frame is sent: the datagram has its place in the guest's receive ring already.
func (t *turn) admitPeer() bool {
	t.enforceLimit(classPeers)
	if t.flows.Full() && !t.evict(classPeers) {
		t.hit(limits.Flows)
		return false
	}
	return true
}

// largestClass returns the largest of this pair's classes from first to last. Any pair may call it.
func (s *shard) largestClass(first, last flowClass) flowClass {
	found := first
	for c := first + 1; c <= last; c++ {
		if s.classes[c].count.Load() > s.classes[found].count.Load() {
			found = c
		}
	}
	return found
}

// sockets returns how many sockets the guest's flows and mappings have, and countSockets takes note of n more of them.
func (s *shard) sockets() int         { return int(s.flows.sockets.Load()) }
func (s *shard) countSockets(n int32) { s.flows.sockets.Add(n) }

// maxSockets is how many sockets the guest's flows may have, be they of one or mappings. Forwards have the others.
func (s *shard) maxSockets() int { return s.cfg.MaxSockets - int(s.pairs.ofForwards.Load()) }

// evict gives up the flow of a class that was idle longest, and tells whether there was one. If that is a connection, both
// sides learn it by a reset.
func (t *turn) evict(c flowClass) bool {
	if t.classes[c].count.Load() == 0 {
		return false
	}
	f := t.flows.at(t.classes[c].first)
	t.hit(c.limit())
	t.hooks.evicted(t, f)
	return true
}
