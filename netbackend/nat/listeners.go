package nat

import (
	"slices"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// listenerSet are the sockets by which others come to the guest: those of the forwards, and those of mappings. A listener stays where
// it is as long as it is in the set.
type listenerSet struct {
	shard   *shard.Shard
	forward []*listener // by their indexes in the forwardSet that the queue pair follows; nil for none
	mapped  []*listener // of mappings, by their indexes
	called  []*listener // listeners that are ready, in the order in which they get their turn
	vacant  []uint32    // free records of mapped
}

// setUp makes the set of a queue pair, with the forwards of its guest by their indexes.
func (e *listenerSet) setUp(s *shard.Shard, forward []*listener) {
	e.shard, e.forward = s, forward
}

// registerListeners lets the worker watch the forwards' ports.
func (e *acceptor) registerListeners() error {
	for l := range e.listeners.forwards() {
		if err := e.register(l); err != nil {
			return err
		}
	}
	return nil
}

// register lets the worker watch the port of a forward.
func (e *acceptor) register(l *listener) error {
	return e.shard.Worker.RegisterInput(int(l.FD), shard.Token(shard.TokenListener, 0, l.index))
}

// forwards yields the listeners of the user's forwards.
func (e *listenerSet) forwards() func(yield func(*listener) bool) {
	return func(yield func(*listener) bool) {
		for _, l := range e.forward {
			if l != nil && !yield(l) {
				return
			}
		}
	}
}

// ofForward returns the listener of the forward of an index, nil if there is none any more.
func (e *listenerSet) ofForward(index uint32) *listener {
	if int(index) >= len(e.forward) {
		return nil
	}
	return e.forward[index]
}

// setForward puts l in the place of the forward of an index, which is over. nil leaves the place free.
func (e *listenerSet) setForward(index uint32, l *listener) {
	if missing := int(index) + 1 - len(e.forward); missing > 0 {
		e.forward = append(e.forward, make([]*listener, missing)...)
	}
	if was := e.forward[index]; was != nil {
		e.called = slices.DeleteFunc(e.called, func(c *listener) bool { return c == was })
	}
	e.forward[index] = l
}

// call notes that something has come in on a listener.
func (e *listenerSet) call(l *listener) {
	if !l.ready && !l.isShut() {
		l.ready = true
		e.called = append(e.called, l)
	}
}

// requeue puts the first n of the listeners that were called, which have had their turn, behind the others, unless they
// have nothing more.
func (e *listenerSet) requeue(n int) {
	for _, l := range e.called[:n] {
		if l.ready {
			e.called = append(e.called, l)
		}
	}
	e.called = slices.Delete(e.called, 0, n)
}

// vacancy returns a free record for the listener of a mapping.
func (e *listenerSet) vacancy() *listener {
	if n := len(e.vacant); n > 0 {
		l := e.mapped[e.vacant[n-1]]
		e.vacant = e.vacant[:n-1]
		return l
	}
	l := &listener{index: uint32(len(e.mapped))}
	e.mapped = append(e.mapped, l)
	return l
}

// vacate frees the record of the listener of a mapping.
func (e *listenerSet) vacate(l *listener) {
	*l = listener{Socket: forward.Socket{FD: -1}, index: l.index, proto: netpkt.UDP}
	e.vacant = append(e.vacant, l.index)
}

// ofMapping returns the listener of a mapping by its index.
func (e *listenerSet) ofMapping(index uint32) *listener { return e.mapped[index] }

// read yields the listeners that this queue pair receives from: forwards belong to one of a guest's, mappings to the one that has
// made them.
func (e *listenerSet) read() func(yield func(*listener) bool) {
	return func(yield func(*listener) bool) {
		if e.shard.Listening {
			for l := range e.forwards() {
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

// waiting returns how many listeners are ready, and ready the i-th of them.
func (e *listenerSet) waiting() int          { return len(e.called) }
func (e *listenerSet) ready(i int) *listener { return e.called[i] }

// event takes note that something has come in on a listener, which is nil if it has ended; failed tells that it has an error.
func (e *listenerSet) event(l *listener, failed bool) {
	if l == nil {
		return
	}
	l.failed = l.failed || failed
	e.call(l)
}

// quitForwards lets the forwards' listeners go: another queue pair has them from now on.
func (e *listenerSet) quitForwards() {
	e.called = slices.DeleteFunc(e.called, func(l *listener) bool { return e.isForward(l) })
	for l := range e.forwards() {
		e.shard.Worker.Unregister(int(l.FD))
		l.ready, l.failed = false, false
	}
}

// forgetForwards lets all forwards go: the queue pair is closed.
func (e *listenerSet) forgetForwards() {
	e.called = slices.DeleteFunc(e.called, func(l *listener) bool { return e.isForward(l) })
	e.forward = nil
}

// isForward reports whether l is a forward's.
func (e *listenerSet) isForward(l *listener) bool { return e.ofForward(l.index) == l }
