package nat

import (
	"errors"
	"time"

	"github.com/vringnet/vring/netbackend/nat/internal/forwardset"
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

// BoundForward is a forward of one port, or of a unix socket, that is open.
type BoundForward = forwardset.Bound

// Forwards returns the forwards of the guest whose queue pair p is, each of one port. Any goroutine may call it.
func (p *Port) Forwards() []spec.Forward { return p.guest.forwards.List() }

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
func (p *Port) ChangeForwards(quit []spec.Forward, add []forwardset.Bound, wake func()) (err error) {
	s := p.shard.Pairs
	p.guest.forwards.Changes.Lock()
	defer p.guest.forwards.Changes.Unlock()
	p.guest.forwards.CloseLeft(&s.Memory)
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
func (p *Port) changeSome(quit []spec.Forward, add []forwardset.Bound, wake func(), patience time.Duration) error {
	s := p.shard.Pairs
	bound := make([]*forwardset.Forward, len(add))
	for i := range add {
		bound[i] = forwardset.Bind(add[i], p.cfg.Guest)
	}
	set, left := p.guest.forwards.Publish(quit, bound)
	if set == nil {
		for _, b := range bound {
			b.Close(&s.Memory)
		}
		return errClosed
	}
	p.gates.ReplaceGates(forwardset.ListenersOf(left), forwardset.ListenersOf(bound))
	wake()
	followed := p.guest.forwards.Await(set.Number, patience)
	p.guest.forwards.CloseLeft(&s.Memory)
	if !followed {
		return ErrNotFollowed
	}
	return nil
}

// ReviveForwards gives the guest back what ChangeForwards has returned ErrNotFollowed for.
func (p *Port) ReviveForwards(wake func()) {
	p.guest.forwards.Changes.Lock()
	defer p.guest.forwards.Changes.Unlock()
	set, revived := p.guest.forwards.Revive()
	p.gates.ReplaceGates(nil, forwardset.ListenersOf(revived))
	wake()
	p.guest.forwards.Await(set.Number, forwardPatience)
}
