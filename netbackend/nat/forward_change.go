package nat

import (
	"errors"
	"time"

	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

const (
	// forwardStep is how many forwards a queue pair adopts or lets go in one turn at most.
	forwardStep = 64
	// forwardPatience is how long one step of a change may take. A thread that is asked does it within its next turn.
	forwardPatience = time.Second
)

// ErrNotFollowed is that a thread of the guest did not answer in time.
var ErrNotFollowed = errors.New("a thread of the guest does not answer, so what it may use is not closed yet")

// Forwards returns the forwards of the guest whose queue pair p is, each of one port. Any goroutine may call it.
func (p *Port) Forwards() []spec.Forward { return p.guest.forwards.list() }

// ChangeForwards takes forwards from the guest whose queue pair p is, of all of its pairs, and gives it others, whose sockets are p's
// from now on. Those that are not named are not touched. It returns when the sockets of those that quit are closed.
//
//   - Connections that came by a forward that quits go on, and so do up to 64 that the kernel has completed and the engine has not
//     taken yet. UDP flows by it end: there is no socket any more by which answers could leave.
//   - What comes by a new forward leads to the guest as soon as the thread has had its turn. The caller has seen to it that no two
//     forwards are the same.
//
// wake gives each of the guest's threads a turn. Any goroutine may call ChangeForwards, but none of these threads.
//
// ErrNotFollowed is that a thread does not answer. It makes the change before it handles a frame again. What it may be using is closed
// by the next change, or with the engine; ReviveForwards takes it back. errClosed is that the engine is closed, and add with it.
func (p *Port) ChangeForwards(quit []spec.Forward, add []BoundForward, wake func()) (err error) {
	s := p.shard.Pairs
	p.guest.forwards.changes.Lock()
	defer p.guest.forwards.changes.Unlock()
	p.guest.forwards.closeLeft(&s.Memory)
	for len(quit)+len(add) > 0 {
		nQuit := min(len(quit), forwardStep)
		nAdd := min(len(add), forwardStep-nQuit)
		patience := forwardPatience
		if err != nil {
			patience = 0 // it was waited for
		}
		err = errors.Join(err, p.changeSome(quit[:nQuit], add[:nAdd], wake, patience))
		quit, add = quit[nQuit:], add[nAdd:]
	}
	return err
}

// errClosed is that nothing can be changed any more.
var errClosed = errors.New("the guest is not served any more")

// changeSome is one step of ChangeForwards.
func (p *Port) changeSome(quit []spec.Forward, add []BoundForward, wake func(), patience time.Duration) error {
	s := p.shard.Pairs
	bound := make([]*boundForward, len(add))
	for i := range add {
		bound[i] = bind(add[i], p.cfg.Guest)
	}
	set, left := p.guest.forwards.publish(quit, bound)
	if set == nil {
		for _, b := range bound {
			b.close(&s.Memory)
		}
		return errClosed
	}
	p.gates.replaceGates(listenersOf(left), listenersOf(bound))
	wake()
	followed := p.guest.forwards.await(set.number, patience)
	p.guest.forwards.closeLeft(&s.Memory)
	if !followed {
		return ErrNotFollowed
	}
	return nil
}

// ReviveForwards gives the guest back what ChangeForwards has returned ErrNotFollowed for.
func (p *Port) ReviveForwards(wake func()) {
	p.guest.forwards.changes.Lock()
	defer p.guest.forwards.changes.Unlock()
	set, revived := p.guest.forwards.revive()
	p.gates.replaceGates(nil, listenersOf(revived))
	wake()
	p.guest.forwards.await(set.number, forwardPatience)
}

// followForwards adopts the forwards of now, as far as they have changed for this queue pair.
func (p *Port) followForwards(t *shard.Turn, after *forwardSet) {
	if p.guest.forwards.isClosed(t.Pair) {
		return // the queue pair is closed
	}
	before, orphans, budget := p.following, false, acceptBurst
	for i := range max(len(before.bound), len(after.bound)) {
		was, is := before.at(i), after.at(i)
		if was == is {
			continue
		}
		if was != nil {
			budget -= p.inbound.quit(t, uint32(i), budget)
			orphans = orphans || was.what.Proto == netpkt.UDP
		}
		if is != nil {
			p.inbound.begin(uint32(i), is.listener)
		}
	}
	if orphans {
		p.udp.endOrphans(t)
	}
	p.following = after
	p.announce(after.number)
}

// announce tells who changes forwards which set this queue pair follows.
func (p *Port) announce(number uint64) {
	p.guest.forwards.follow(p.shard.Pair, number)
}

// begin lets clients come by a forward.
func (e *acceptor) begin(index uint32, l listener) {
	e.listeners.setForward(index, &l)
	if e.shard.Worker == nil {
		return // Start does the rest
	}
	e.udp.prepareForward(&l)
	if e.shard.Listening && e.register(&l) != nil {
		e.shard.OverLimit(limits.Host)
	}
}

// quit lets no more clients come by a forward. Up to most that the kernel has connected still do; it returns how many.
func (e *acceptor) quit(t *shard.Turn, index uint32, most int) (taken int) {
	l := e.listeners.ofForward(index)
	if e.shard.Listening && e.shard.Worker != nil {
		if l.proto == netpkt.TCP && !l.isShut() && e.acceptAt == 0 {
			taken = e.acceptSome(t, l, most)
		}
		e.shard.Worker.Unregister(int(l.FD))
	}
	e.listeners.setForward(index, nil)
	return taken
}

// isOrphan reports whether a flow has come by a UDP forward that is over.
func (e *udpEngine) isOrphan(f *shard.Flow) bool {
	return f.Bits&shard.SharedSocket != 0 && e.of(f).via != viaMapping && e.listeners.ofForward(e.of(f).via-1) == nil
}

// endOrphans ends the flows of this queue pair that have come by forwards that are over.
func (e *udpEngine) endOrphans(t *shard.Turn) {
	t.Flows.ForEach(t.Owner, func(f *shard.Flow) {
		if f.Key.Proto == netpkt.UDP && e.isOrphan(f) {
			t.Remove(f)
		}
	})
}
