package nat

import (
	"math/bits"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

// Several queue pairs of a guest are Ports that share the table of flows, each on its worker's thread. A flow belongs to
// one of them, which has its socket in its epoll set and its timer in its wheel, and gives the guest its frames; nobody
// else touches the record. Drivers expect the frames of a flow on the pair by which they sent its last one (virtio 1.2
// section 5.1.6.5.6), so a flow moves there:
//
//   - A Port that gets a frame for a flow of another's ([turn.find]) leaves this frame and those behind it in the ring,
//     and asks the owner for the flow. It waits for one flow at a time, and goes on serving those that it has.
//   - The owner hands the flow over when it comes to it in its own turn (shard.moveOut): off its lists, out of its epoll set.
//   - The asker adopts it (shard.moveIn): on its lists, into its epoll set. Adding a socket to an edge-triggered set reports its present
//     readiness, so nothing gets lost in between; and an event that the old owner has collected already finds that the
//     record is not its own any more. The frames that waited in the ring come next, in the same turn, so that two pairs
//     that take a flow from each other both get on.
//
// So no lock is held while a flow is worked on, and a record has one writer at any moment. What passes between threads
// passes through the mailboxes, under their locks, once for each move. An asker is always answered, if only by being
// woken to look again: the flow may be over, or somebody else's by now.
//
// A pair whose receive ring does not run gives its flows, mappings and the listeners to the lowest that runs (shard.announceRunning, and Port.rebalance).

// where tells which queue pair has a flow.
type where uint8

const (
	nowhere   where = iota // none: there is no such flow
	here                   // this one
	elsewhere              // another one: a frame of the guest for this flow has to wait until it is this pair's
)

// find looks up the flow of a key for a frame of the guest. The flow is nil unless it is here. If it is elsewhere, its owner is
// asked for it.
//
// The record that lookup returns may be over, or change hands, just now; but it is not used anew before this turn is over
// (retire), so its key can be compared.
func (t *turn) find(key *flowtable.Key) (*flow, where) {
	f := t.flows.lookup(key)
	if f == nil {
		return nil, nowhere
	}
	if !t.alone() && !t.owns(f) {
		return nil, elsewhere
	}
	if f.host != t.from {
		t.moved(f)
	}
	return f, here
}

// owns reports whether the record f belongs to this queue pair. If not, its owner is asked for it.
func (s *shard) owns(f *flow) bool {
	if s.flows.IsOf(f.index, s.me) {
		return true
	}
	if to := s.flows.OwnerOf(f.index); to != s.me && to != flowtable.Nobody {
		s.requestMove(s.pairs.shards[to-1], &f.key)
	}
	return false
}

// requestMove asks another shard for a flow. Asking twice, or for another one, changes what is asked for.
func (s *shard) requestMove(owner *shard, key *flowtable.Key) {
	owner.mailbox.put(func(m *mail) {
		m.moveRequests |= 1 << s.id
		m.requested[s.id] = *key
	})
}

// eachRequest calls fn for each flow that another pair asks for.
func (s *shard) eachRequest(m *mail, fn func(key *flowtable.Key, to *shard)) {
	for requests := m.moveRequests; requests != 0; requests &= requests - 1 {
		i := bits.TrailingZeros32(requests)
		fn(&m.requested[i], s.pairs.shards[i])
	}
}

// scheduleMove lets f go to another pair when it has its next turn. Who was to get it before looks again.
func (s *shard) scheduleMove(f *flow, to *shard) {
	if f.bits&leaving != 0 && uint32(f.to) != to.id {
		s.pairs.shards[f.to].wake()
	}
	f.bits |= leaving
	f.to = uint8(to.id)
	s.run.move(s.flows, &s.starved)
	s.schedule(f)
}

// isLeaving reports whether f is to go to another pair now.
func (f *flow) isLeaving() bool { return f.bits&leaving != 0 && f.state != stateDead }

// moveOut gives a flow, which stands on no run list, to the pair that it is to go to. !ok means that nobody is there any more: the
// flow is to be moved in again.
func (s *shard) moveOut(f *flow) (ok bool) {
	to := s.pairs.shards[f.to]
	f.bits &^= leaving
	c := f.class
	s.wheel.Leave(f.index)
	s.leaveClass(f)
	f.class = c // for the one who adopts it
	if f.fd >= 0 && f.bits&shared == 0 {
		s.worker.Unregister(int(f.fd))
	}
	s.flows.Send(f.index, to.me)
	if !to.mailbox.put(func(m *mail) { m.flows = append(m.flows, f.index) }) {
		return false
	}
	s.counters.FlowsMoved++
	return true
}

// moveIn takes a flow that was handed over. The error is that the worker cannot watch its socket.
func (s *shard) moveIn(f *flow) error {
	s.flows.Own(f.index, s.me)
	if c := f.class; c != classNone {
		f.class = classNone
		s.joinClass(f, c)
	}
	s.wheel.Join(f.index)
	if f.fd < 0 || f.bits&shared != 0 {
		return nil
	}
	if err := s.register(f); err != nil {
		s.hit(limits.Host)
		return err
	}
	return nil
}
