package nat

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Forwards change while the guest is served. Who changes them binds and closes the sockets; the queue pairs' threads do neither.
//
// The forwards of a guest at one time are a forwardSet, which does not change. A new one is published, and each queue pair follows it
// from its next turn on, before it looks at events and frames (Port.followForwards). A socket that is in the new set no more is
// closed when all pairs follow that set or a later one: until then, one of them may still use it.
//
// A forward has an index, by which UDP flows name it (udpFlow.via), and which no other forward gets before its socket is closed. So
// that a flow on its way between two pairs is not taken for one of another forward, a pair looks which set is to be followed before it
// empties its mailbox, and follows it after that.

// BoundForward is a forward of one port, or of a unix socket, that is open.
type BoundForward struct {
	Forward spec.Forward // Count is 1
	Socket  forward.Socket
}

// boundForward is a forward that leads to the guest.
type boundForward struct {
	what     spec.Forward
	listener listener // what each queue pair has of it at first
	quitWith uint64   // number of the first set that it is not in, while it is leaving
}

// forwardSet are the forwards of a guest at one time.
type forwardSet struct {
	number uint64
	bound  []*boundForward // by index; nil for none
	count  int             // of those that are not nil
}

// at returns the forward of an index, nil for none.
func (s *forwardSet) at(index int) *boundForward {
	if index >= len(s.bound) {
		return nil
	}
	return s.bound[index]
}

// listenersOf returns those of forwards, which all queue pairs share.
func listenersOf(bound []*boundForward) []*listener {
	all := make([]*listener, len(bound))
	for i, b := range bound {
		all[i] = &b.listener
	}
	return all
}

// listeners are what a queue pair has of the forwards at first.
func (s *forwardSet) listeners() []*listener {
	all := make([]*listener, len(s.bound))
	for i, b := range s.bound {
		l := b.listener
		all[i] = &l
	}
	return all
}

// forwards are those of a guest, with what is under way between two sets.
type forwards struct {
	current   atomic.Pointer[forwardSet]
	moved     chan struct{}   // a queue pair follows another set, or none any more; buffered
	changes   sync.Mutex      // is held during a change
	sockets   *atomic.Int32   // that current takes of the guest's share; the shards read it
	following []atomic.Uint64 // number of the set that each queue pair follows

	mu      sync.Mutex      // guards what follows, and the storing of current
	leaving []*boundForward // out of current; their sockets may be in use
	closed  bool            // all queue pairs are
}

// followsAll is what a queue pair says that it follows when it is closed.
const followsAll = ^uint64(0)

// begin makes the first set.
func (s *forwards) begin(bound []*boundForward, pairs int, sockets *atomic.Int32) {
	s.following = make([]atomic.Uint64, pairs)
	s.sockets = sockets
	s.moved = make(chan struct{}, 1)
	s.store(&forwardSet{bound: bound, count: len(bound)})
}

// store makes a set the current one.
func (s *forwards) store(set *forwardSet) {
	s.current.Store(set)
	s.sockets.Store(int32(set.count))
}

// list returns what is open.
func (s *forwards) list() (all []spec.Forward) {
	for _, b := range s.current.Load().bound {
		if b != nil {
			all = append(all, b.what)
		}
	}
	return all
}

// publish makes the set without those that are to quit, and with those that are to be added. It returns the set, and those that
// have left; nil if all queue pairs are closed, and then nothing has changed.
func (s *forwards) publish(quit []spec.Forward, add []*boundForward) (*forwardSet, []*boundForward) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil
	}
	before := s.current.Load()
	after := &forwardSet{number: before.number + 1, bound: slices.Clone(before.bound)}
	left := s.remove(after, quit)
	place := 0
	for _, b := range add {
		if place = s.free(after, place); place >= len(after.bound) {
			after.bound = slices.Grow(after.bound, place+1-len(after.bound))[:place+1]
		}
		b.place(uint32(place))
		after.bound[place] = b
	}
	for _, b := range after.bound {
		if b != nil {
			after.count++
		}
	}
	s.store(after)
	return after, left
}

// remove takes forwards out of a set that is being made. Their places stay theirs until they are closed.
func (s *forwards) remove(from *forwardSet, quit []spec.Forward) (left []*boundForward) {
	gone := make(map[spec.Forward]bool, len(quit))
	for _, f := range quit {
		gone[f] = true
	}
	for i, b := range from.bound {
		if b != nil && gone[b.what] {
			b.quitWith = from.number
			left = append(left, b)
			from.bound[i] = nil
		}
	}
	s.leaving = append(s.leaving, left...)
	return left
}

// revive makes the set with those that are leaving again, and returns them.
func (s *forwards) revive() (after *forwardSet, revived []*boundForward) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.current.Load()
	after = &forwardSet{number: before.number + 1, bound: slices.Clone(before.bound), count: before.count + len(s.leaving)}
	for _, b := range s.leaving {
		after.bound[b.listener.index] = b
	}
	revived, s.leaving = s.leaving, nil
	s.store(after)
	return after, revived
}

// free returns the first place from one on that nobody has, or the one behind the last.
func (s *forwards) free(in *forwardSet, from int) int {
	for i := from; i < len(in.bound); i++ {
		if in.bound[i] == nil && !s.isTaken(i) {
			return i
		}
	}
	for place := max(from, len(in.bound)); ; place++ {
		if !s.isTaken(place) {
			return place
		}
	}
}

// isTaken reports whether a place still is that of a forward that is leaving.
func (s *forwards) isTaken(place int) bool {
	return slices.ContainsFunc(s.leaving, func(b *boundForward) bool { return int(b.listener.index) == place })
}

// place gives the forward its index.
func (b *boundForward) place(index uint32) {
	b.listener.index = index
	if s := b.listener.shared; s != nil {
		s.via = index + 1
	}
}

// closeLeft closes those that no queue pair can be using any more.
func (s *forwards) closeLeft(memory *shard.KernelMemory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	following := s.followed()
	s.leaving = slices.DeleteFunc(s.leaving, func(b *boundForward) bool {
		if following < b.quitWith {
			return false
		}
		b.close(memory)
		return true
	})
}

// closeAll closes all that is open, when no queue pair is.
func (s *forwards) closeAll(memory *shard.KernelMemory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, b := range slices.Concat(s.leaving, s.current.Load().bound) {
		if b != nil {
			b.close(memory)
		}
	}
	s.leaving = nil
}

// close closes a forward that nobody uses.
func (b *boundForward) close(memory *shard.KernelMemory) {
	if b.listener.shared != nil {
		memory.Forget(&b.listener.shared.memory)
	}
	b.listener.Close()
}

// follow takes note that a queue pair follows a set.
func (s *forwards) follow(pair uint32, number uint64) {
	s.following[pair].Store(number)
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// isClosed reports whether a queue pair is closed.
func (s *forwards) isClosed(pair uint32) bool { return s.following[pair].Load() == followsAll }

// followed is the number of the set that all queue pairs follow, or have followed.
func (s *forwards) followed() uint64 {
	number := followsAll
	for i := range s.following {
		number = min(number, s.following[i].Load())
	}
	return number
}

// await waits until all queue pairs follow a set, for a limited time, and reports whether they do.
func (s *forwards) await(number uint64, patience time.Duration) bool {
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

// bind makes a forward of what is open. It leads to the address guest if it names none.
func bind(b BoundForward, guest netip.Addr) *boundForward {
	to := ipaddr.EndpointFrom(b.Forward.Guest)
	if !b.Forward.Guest.Addr().IsValid() {
		to.Addr = ipaddr.From(guest)
	}
	l := listener{
		Socket: b.Socket, proto: b.Forward.Proto, acceptProxy: b.Forward.AcceptProxy, sendProxy: b.Forward.SendProxy, to: to,
	}
	if l.proto == netpkt.UDP {
		l.shared = &sharedSocket{
			fd: l.FD, guest: l.to, sender: hostsock.Sender{V6: b.Forward.Host.Addr().Is6()},
			asksWays: b.Forward.Host.Addr().IsUnspecified() && l.AsksWays(),
		}
	}
	if b.Forward.Gate {
		l.shutNow = new(atomic.Bool)
		l.shut() // it was open for long enough to tell that nobody else is there
	}
	return &boundForward{what: b.Forward, listener: l}
}
