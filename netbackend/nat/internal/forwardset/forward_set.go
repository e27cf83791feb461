package forwardset

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Forwards change while the guest is served. Who changes them binds and closes the sockets; the queue pairs' threads do neither.
//
// The forwards of a guest at one time are a Set, which does not change. A new one is published, and each queue pair follows it
// from its next turn on, before it looks at events and frames (Port.followForwards). A socket that is in the new set no more is
// closed when all pairs follow that set or a later one: until then, one of them may still use it.
//
// A forward has an index, by which UDP flows name it (association.via), and which no other forward gets before its socket is closed. So
// that a flow on its way between two pairs is not taken for one of another forward, a pair looks which set is to be followed before it
// empties its mailbox, and follows it after that.

// Bound is a forward of one port, or of a unix socket, that is open.
type Bound struct {
	Forward spec.Forward // Count is 1
	Socket  forward.Socket
}

// Forward is a forward that leads to the guest.
type Forward struct {
	Spec     spec.Forward
	Listener listeners.Listener // what each queue pair has of it at first
	quitWith uint64             // number of the first set that it is not in, while it is leaving
}

// Set are the forwards of a guest at one time.
type Set struct {
	Number uint64
	Bound  []*Forward // by index; nil for none
	count  int        // of those that are not nil
}

// At returns the forward of an index, nil for none.
func (s *Set) At(index int) *Forward {
	if index >= len(s.Bound) {
		return nil
	}
	return s.Bound[index]
}

// ListenersOf returns those of forwards, which all queue pairs share.
func ListenersOf(bound []*Forward) []*listeners.Listener {
	all := make([]*listeners.Listener, len(bound))
	for i, b := range bound {
		all[i] = &b.Listener
	}
	return all
}

// Listeners are what a queue pair has of the forwards at first.
func (s *Set) Listeners() []*listeners.Listener {
	all := make([]*listeners.Listener, len(s.Bound))
	for i, b := range s.Bound {
		l := b.Listener
		all[i] = &l
	}
	return all
}

// Forwards are those of a guest, with what is under way between two sets.
type Forwards struct {
	Current   atomic.Pointer[Set]
	moved     chan struct{}   // a queue pair follows another set, or none any more; buffered
	Changes   sync.Mutex      // is held during a change
	sockets   *atomic.Int32   // that current takes of the guest's share; the shards read it
	following []atomic.Uint64 // number of the set that each queue pair follows

	mu      sync.Mutex // guards what follows, and the storing of current
	leaving []*Forward // out of current; their sockets may be in use
	closed  bool       // all queue pairs are
}

// FollowsAll is what a queue pair says that it follows when it is closed.
const FollowsAll = ^uint64(0)

// Begin makes the first set.
func (s *Forwards) Begin(bound []*Forward, pairs int, sockets *atomic.Int32) {
	s.following = make([]atomic.Uint64, pairs)
	s.sockets = sockets
	s.moved = make(chan struct{}, 1)
	s.store(&Set{Bound: bound, count: len(bound)})
}

// store makes a set the current one.
func (s *Forwards) store(set *Set) {
	s.Current.Store(set)
	s.sockets.Store(int32(set.count))
}

// List returns what is open.
func (s *Forwards) List() (all []spec.Forward) {
	for _, b := range s.Current.Load().Bound {
		if b != nil {
			all = append(all, b.Spec)
		}
	}
	return all
}

// Publish makes the set without those that are to quit, and with those that are to be added. It returns the set, and those that
// have left; nil if all queue pairs are closed, and then nothing has changed.
func (s *Forwards) Publish(quit []spec.Forward, add []*Forward) (*Set, []*Forward) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil
	}
	before := s.Current.Load()
	after := &Set{Number: before.Number + 1, Bound: slices.Clone(before.Bound)}
	left := s.remove(after, quit)
	place := 0
	for _, b := range add {
		if place = s.free(after, place); place >= len(after.Bound) {
			after.Bound = slices.Grow(after.Bound, place+1-len(after.Bound))[:place+1]
		}
		b.Place(uint32(place))
		after.Bound[place] = b
	}
	for _, b := range after.Bound {
		if b != nil {
			after.count++
		}
	}
	s.store(after)
	return after, left
}

// remove takes forwards out of a set that is being made. Their places stay theirs until they are closed.
func (s *Forwards) remove(from *Set, quit []spec.Forward) (left []*Forward) {
	gone := make(map[spec.Forward]bool, len(quit))
	for _, f := range quit {
		gone[f] = true
	}
	for i, b := range from.Bound {
		if b != nil && gone[b.Spec] {
			b.quitWith = from.Number
			left = append(left, b)
			from.Bound[i] = nil
		}
	}
	s.leaving = append(s.leaving, left...)
	return left
}

// Revive makes the set with those that are leaving again, and returns them.
func (s *Forwards) Revive() (after *Set, revived []*Forward) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.Current.Load()
	after = &Set{Number: before.Number + 1, Bound: slices.Clone(before.Bound), count: before.count + len(s.leaving)}
	for _, b := range s.leaving {
		after.Bound[b.Listener.Index] = b
	}
	revived, s.leaving = s.leaving, nil
	s.store(after)
	return after, revived
}

// free returns the first place from one on that nobody has, or the one behind the last.
func (s *Forwards) free(in *Set, from int) int {
	for i := from; i < len(in.Bound); i++ {
		if in.Bound[i] == nil && !s.isTaken(i) {
			return i
		}
	}
	for place := max(from, len(in.Bound)); ; place++ {
		if !s.isTaken(place) {
			return place
		}
	}
}

// isTaken reports whether a place still is that of a forward that is leaving.
func (s *Forwards) isTaken(place int) bool {
	return slices.ContainsFunc(s.leaving, func(b *Forward) bool { return int(b.Listener.Index) == place })
}

// Place gives the forward its index.
func (b *Forward) Place(index uint32) {
	b.Listener.Index = index
	if s := b.Listener.Shared; s != nil {
		s.Via = index + 1
	}
}

// CloseLeft closes those that no queue pair can be using any more.
func (s *Forwards) CloseLeft(memory *shard.KernelMemory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	following := s.followed()
	s.leaving = slices.DeleteFunc(s.leaving, func(b *Forward) bool {
		if following < b.quitWith {
			return false
		}
		b.Close(memory)
		return true
	})
}

// CloseAll closes all that is open, when no queue pair is.
func (s *Forwards) CloseAll(memory *shard.KernelMemory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, b := range slices.Concat(s.leaving, s.Current.Load().Bound) {
		if b != nil {
			b.Close(memory)
		}
	}
	s.leaving = nil
}

// Close closes a forward that nobody uses.
func (b *Forward) Close(memory *shard.KernelMemory) {
	if b.Listener.Shared != nil {
		memory.Forget(&b.Listener.Shared.Memory)
	}
	b.Listener.Close()
}

// Follow takes note that a queue pair follows a set.
func (s *Forwards) Follow(pair uint32, number uint64) {
	s.following[pair].Store(number)
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// IsClosed reports whether a queue pair is closed.
func (s *Forwards) IsClosed(pair uint32) bool { return s.following[pair].Load() == FollowsAll }

// followed is the number of the set that all queue pairs follow, or have followed.
func (s *Forwards) followed() uint64 {
	number := FollowsAll
	for i := range s.following {
		number = min(number, s.following[i].Load())
	}
	return number
}

// Await waits until all queue pairs follow a set, for a limited time, and reports whether they do.
func (s *Forwards) Await(number uint64, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for s.followed() < number {
		select {
		case <-s.moved:
		case <-timer.C:
			return s.followed() >= number
		}
	}
	return true
}

// Bind makes a forward of what is open. It leads to the address guest if it names none.
func Bind(b Bound, guest netip.Addr) *Forward {
	to := ipaddr.EndpointFrom(b.Forward.Guest)
	if !b.Forward.Guest.Addr().IsValid() {
		to.Addr = ipaddr.From(guest)
	}
	l := listeners.Listener{
		Socket: b.Socket, Proto: b.Forward.Proto, AcceptProxy: b.Forward.AcceptProxy, SendProxy: b.Forward.SendProxy, Guest: to,
	}
	if l.Proto == netpkt.UDP {
		l.Shared = &listeners.SharedSocket{
			FD: l.FD, Guest: l.Guest, Sender: hostsock.Sender{V6: b.Forward.Host.Addr().Is6()},
			AsksWays: b.Forward.Host.Addr().IsUnspecified() && l.AsksWays(),
		}
	}
	if b.Forward.Gate {
		l.ShutNow = new(atomic.Bool)
		l.Shut() // it was open for long enough to tell that nobody else is there
	}
	return &Forward{Spec: b.Forward, Listener: l}
}
