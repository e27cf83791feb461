package listeners

import (
	"slices"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// Set are the sockets by which others come to the guest: those of the forwards, and those of mappings. A listener stays where
// it is as long as it is in the set.
type Set struct {
	shard          *shard.Shard
	forward        []*Listener // by their indexes in the Set that the queue pair follows; nil for none
	mapped         []*Listener // of mappings, by their indexes
	readyListeners []*Listener // listeners that are ready, in the order in which they get their turn
	freeSlots      []uint32    // free records of mapped
}

// SetUp makes the set of a queue pair, with the forwards of its guest by their indexes.
func (e *Set) SetUp(s *shard.Shard, forward []*Listener) {
	e.shard, e.forward = s, forward
}

// Forwards yields the listeners of the user's forwards.
func (e *Set) Forwards() func(yield func(*Listener) bool) {
	return func(yield func(*Listener) bool) {
		for _, l := range e.forward {
			if l != nil && !yield(l) {
				return
			}
		}
	}
}

// OfForward returns the listener of the forward of an index, nil if there is none any more.
func (e *Set) OfForward(index uint32) *Listener {
	if int(index) >= len(e.forward) {
		return nil
	}
	return e.forward[index]
}

// SetForward puts l in the place of the forward of an index, which is over. nil leaves the place free.
func (e *Set) SetForward(index uint32, l *Listener) {
	if missing := int(index) + 1 - len(e.forward); missing > 0 {
		e.forward = append(e.forward, make([]*Listener, missing)...)
	}
	if was := e.forward[index]; was != nil {
		e.readyListeners = slices.DeleteFunc(e.readyListeners, func(c *Listener) bool { return c == was })
	}
	e.forward[index] = l
}

// markReady notes that something has come in on a listener.
func (e *Set) markReady(l *Listener) {
	if !l.Ready && !l.IsShut() {
		l.Ready = true
		e.readyListeners = append(e.readyListeners, l)
	}
}

// Requeue puts the first n of the listeners that were called, which have had their turn, behind the others, unless they
// have nothing more.
func (e *Set) Requeue(n int) {
	for _, l := range e.readyListeners[:n] {
		if l.Ready {
			e.readyListeners = append(e.readyListeners, l)
		}
	}
	e.readyListeners = slices.Delete(e.readyListeners, 0, n)
}

// AllocSlot returns a free record for the listener of a mapping.
func (e *Set) AllocSlot() *Listener {
	if n := len(e.freeSlots); n > 0 {
		l := e.mapped[e.freeSlots[n-1]]
		e.freeSlots = e.freeSlots[:n-1]
		return l
	}
	l := &Listener{Index: uint32(len(e.mapped))}
	e.mapped = append(e.mapped, l)
	return l
}

// FreeSlot frees the record of the listener of a mapping.
func (e *Set) FreeSlot(l *Listener) {
	*l = Listener{Socket: forward.Socket{FD: -1}, Index: l.Index, Proto: netpkt.UDP}
	e.freeSlots = append(e.freeSlots, l.Index)
}

// OfMapping returns the listener of a mapping by its index.
func (e *Set) OfMapping(index uint32) *Listener { return e.mapped[index] }

// Receiving yields the listeners that this queue pair receives from: forwards belong to one of a guest's, mappings to the one that has
// made them.
func (e *Set) Receiving() func(yield func(*Listener) bool) {
	return func(yield func(*Listener) bool) {
		if e.shard.Listening {
			for l := range e.Forwards() {
				if !yield(l) {
					return
				}
			}
		}
		for _, l := range e.mapped {
			if !yield(l) {
				return
			}
		}
	}
}

// Waiting returns how many listeners are ready, and ready the i-th of them.
func (e *Set) Waiting() int { return len(e.readyListeners) }

// Ready returns the i-th of those that are ready.
func (e *Set) Ready(i int) *Listener { return e.readyListeners[i] }

// OnEvent takes note that something has come in on a listener, which is nil if it has ended; failed tells that it has an error.
func (e *Set) OnEvent(l *Listener, failed bool) {
	if l == nil {
		return
	}
	l.SockError = l.SockError || failed
	e.markReady(l)
}

// ReleaseForwards lets the forwards' listeners go: another queue pair has them from now on.
func (e *Set) ReleaseForwards() {
	e.readyListeners = slices.DeleteFunc(e.readyListeners, func(l *Listener) bool { return e.isForward(l) })
	for l := range e.Forwards() {
		e.shard.Worker.Unregister(int(l.FD))
		l.Ready, l.SockError = false, false
	}
}

// ForgetForwards lets all forwards go: the queue pair is closed.
func (e *Set) ForgetForwards() {
	e.readyListeners = slices.DeleteFunc(e.readyListeners, func(l *Listener) bool { return e.isForward(l) })
	e.forward = nil
}

// isForward reports whether l is a forward's.
func (e *Set) isForward(l *Listener) bool { return e.OfForward(l.Index) == l }
