package shard

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
//   - The owner hands the flow over when it comes to it in its own turn (Shard.MoveOut): off its lists, out of its epoll set.
//   - The asker adopts it (Shard.MoveIn): on its lists, into its epoll set. Adding a socket to an edge-triggered set reports its present
//     readiness, so nothing gets lost in between; and an event that the old owner has collected already finds that the
//     record is not its own any more. The frames that waited in the ring come next, in the same turn, so that two pairs
//     that take a flow from each other both get on.
//
// So no lock is held while a flow is worked on, and a record has one writer at any moment. What passes between threads
// passes through the mailboxes, under their locks, once for each move. An asker is always answered, if only by being
// woken to look again: the flow may be over, or somebody else's by now.
//
// A pair whose receive ring does not run gives its flows, mappings and the listeners to the lowest that runs (Shard.AnnounceRunning, and what follows its mail).

// Where tells which queue pair has a flow.
type Where uint8

const (
	Nowhere   Where = iota // none: there is no such flow
	Here                   // this one
	Elsewhere              // another one: a frame of the guest for this flow has to wait until it is this pair's
)

// Find looks up the flow of a key for a frame of the guest. The flow is nil unless it is here. If it is elsewhere, its owner is
// asked for it.
//
// The record that lookup returns may be over, or change hands, just now; but it is not used anew before this turn is over
// (retire), so its key can be compared.
func (t *Turn) Find(key *flowtable.Key) (*Flow, Where) {
	f := t.Flows.Find(key)
	if f == nil {
		return nil, Nowhere
	}
	if !t.Alone() && !t.owns(f) {
		return nil, Elsewhere
	}
	if f.Host != t.From {
		t.moved(f)
	}
	return f, Here
}

// owns reports whether the record f belongs to this queue pair. If not, its owner is asked for it.
func (s *Shard) owns(f *Flow) bool {
	if s.Flows.IsOf(f.Index, s.Owner) {
		return true
	}
	if to := s.Flows.OwnerOf(f.Index); to != s.Owner && to != flowtable.Nobody {
		s.requestMove(s.Pairs.shards[to-1], &f.Key)
	}
	return false
}

// requestMove asks another shard for a flow. Asking twice, or for another one, changes what is asked for.
func (s *Shard) requestMove(owner *Shard, key *flowtable.Key) {
	owner.mailbox.put(func(m *mail) {
		m.moveRequests |= 1 << s.Pair
		m.requested[s.Pair] = *key
	})
}

// WakeOwner gives the queue pair that has a flow a turn, unless it is this one. If the flow goes to another one meanwhile, that has a turn for it.
func (s *Shard) WakeOwner(index uint32) {
	if to := s.Flows.OwnerOf(index); to != s.Owner && to != flowtable.Nobody {
		s.Pairs.shards[to-1].Wake()
	}
}

// EachRequest calls fn for each flow that another pair asks for.
func (s *Shard) EachRequest(m *mail, fn func(key *flowtable.Key, to *Shard)) {
	for requests := m.moveRequests; requests != 0; requests &= requests - 1 {
		i := bits.TrailingZeros32(requests)
		fn(&m.requested[i], s.Pairs.shards[i])
	}
}

// ScheduleMove lets f go to another pair when it has its next turn. Who was to get it before looks again.
func (s *Shard) ScheduleMove(f *Flow, to *Shard) {
	if f.Bits&leaving != 0 && uint32(f.moveTo) != to.Pair {
		s.Pairs.shards[f.moveTo].Wake()
	}
	f.Bits |= leaving
	f.moveTo = uint8(to.Pair)
	s.run.move(s.Flows, &s.rxBlocked)
	s.Schedule(f)
}

// IsLeaving reports whether f is to go to another pair now.
func (f *Flow) IsLeaving() bool { return f.Bits&leaving != 0 && f.State != StateDead }

// MoveOut gives a flow, which stands on no run list, to the pair that it is to go to. !ok means that nobody is there any more: the
// flow is to be moved in again.
func (s *Shard) MoveOut(f *Flow) (ok bool) {
	to := s.Pairs.shards[f.moveTo]
	f.Bits &^= leaving
	c := f.Class
	s.Wheel.Leave(f.Index)
	s.LeaveClass(f)
	f.Class = c // for the one who adopts it
	if f.FD >= 0 && f.Bits&SharedSocket == 0 {
		s.Worker.Unregister(int(f.FD))
	}
	s.Flows.Send(f.Index, to.Owner)
	if !to.mailbox.put(func(m *mail) { m.Flows = append(m.Flows, f.Index) }) {
		return false
	}
	s.Counters.FlowsMoved++
	return true
}

// MoveIn takes a flow that was handed over. The error is that the worker cannot watch its socket.
func (s *Shard) MoveIn(f *Flow) error {
	s.Flows.Own(f.Index, s.Owner)
	if c := f.Class; c != ClassNone {
		f.Class = ClassNone
		s.JoinClass(f, c)
	}
	s.Wheel.Join(f.Index)
	if f.FD < 0 || f.Bits&SharedSocket != 0 {
		return nil
	}
	if err := s.register(f); err != nil {
		s.OverLimit(limits.Host)
		return err
	}
	return nil
}
