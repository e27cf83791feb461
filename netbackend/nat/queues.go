package nat

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/pathmtu"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// maxPairs is how many queue pairs a guest may have.
const maxPairs = 32

// Several queue pairs of a guest are Ports that share the table of flows, each on its worker's thread. A flow belongs to
// one of them, which has its socket in its epoll set and its timer in its wheel, and gives the guest its frames; nobody
// else touches the record. Drivers expect the frames of a flow on the pair by which they sent its last one (virtio 1.2
// section 5.1.6.5.6), so a flow moves there:
//
//   - A Port that gets a frame for a flow of another's ([turn.find]) leaves this frame and those behind it in the ring,
//     and asks the owner for the flow. It waits for one flow at a time, and goes on serving those that it has.
//   - The owner hands the flow over when it comes to it in its own turn (handOver): off its lists, out of its epoll set.
//   - The asker adopts it: on its lists, into its epoll set. Adding a socket to an edge-triggered set reports its present
//     readiness, so nothing gets lost in between; and an event that the old owner has collected already finds that the
//     record is not its own any more. The frames that waited in the ring come next, in the same turn, so that two pairs
//     that take a flow from each other both get on.
//
// So no lock is held while a flow is worked on, and a record has one writer at any moment. What passes between threads
// passes through the postboxes, under their locks, once for each move. An asker is always answered, if only by being
// woken to look again: the flow may be over, or somebody else's by now.
//
// A pair whose receive ring does not run gives its flows, mappings and the listeners to the lowest that runs (settle).

// pairs is what shards of a guest know of each other and have in common, beside the table of flows. What parts of the engine share
// with those of other queue pairs is theirs, see guest.
type pairs struct {
	shards     []*shard
	running    atomic.Uint32 // a bit for each pair whose receive ring runs
	open       atomic.Int32  // ports that are not closed yet
	ofForwards atomic.Int32  // sockets of forwards; the guest's flows have the others
	budgets    limits.Budgets
	newFlows   newFlows
	memory     kernelMemory
	paths      pathmtu.Table
}

// begin sets the limits, before the first queue pair is made.
func (s *pairs) begin(l *KernelLimits) {
	s.budgets.Fill()
	s.newFlows.fill(l)
	s.memory.budget = l.Memory
}

// lowest returns the lowest pair whose receive ring runs, nil if none does.
func (s *pairs) lowest() *shard {
	if r := s.running.Load(); r != 0 {
		return s.shards[bits.TrailingZeros32(r)]
	}
	return nil
}

// postbox is what other threads leave for a Port. It is emptied at the beginning of each turn.
type postbox struct {
	any atomic.Bool // there is something; who sets it wakes the thread
	fd  int         // eventfd in the worker's epoll set

	mu      sync.Mutex
	closed  bool
	flows   []uint32          // handed over to this Port
	askers  uint32            // a bit for each pair that wants a flow
	wanted  [maxPairs]flowKey // and which
	listen  bool              // the listeners are this Port's now
	unquiet bool              // pairs have begun or ceased to run
	// mappings were given to this Port, or have no flows any more. They are named by their ports of the guest.
	mappings []ipaddr.Endpoint
	// overLimit and underPressure have a bit for each class of which others want a flow to go: if there are too many, or in any case.
	overLimit, underPressure uint
}

// put lets fn leave something, and wakes the Port's thread. !ok means that the Port is closed.
func (b *postbox) put(fn func(*postbox)) (ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	fn(b)
	if !b.any.Swap(true) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(b.fd, one[:])
	}
	return true
}

// nudge wakes the Port for a turn.
func (b *postbox) nudge() { b.put(func(*postbox) {}) }

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
func (t *turn) find(key *flowKey) (*flow, where) {
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
		s.askFor(s.pairs.shards[to-1], &f.key)
	}
	return false
}

// askFor asks another Port for a flow. Asking twice, or for another one, changes what is asked for.
func (s *shard) askFor(owner *shard, key *flowKey) {
	owner.post.put(func(b *postbox) {
		b.askers |= 1 << s.id
		b.wanted[s.id] = *key
	})
}

// alone tells whether the guest has one queue pair only.
func (s *shard) alone() bool { return s.cfg.Queues == 1 }

// leads tells whether this pair does what the guest is to be told once, and without being asked.
func (s *shard) leads() bool { return s.listening && s.connected && s.receiving }

// beginTurn lets others know that this thread may look at any record from now on, endTurn that it does not any more.
func (s *shard) beginTurn() { s.turns.Add(1) }
func (s *shard) endTurn()   { s.turns.Add(1) }

// readPost does what others ask for.
func (p *Port) readPost(t *turn) {
	if t.found != t.hosts.Found() {
		p.tcp.located()
	}
	if !t.post.any.Swap(false) {
		return
	}
	b := &t.post
	b.mu.Lock()
	p.arrived, b.flows = b.flows, p.arrived[:0]
	askers, wanted, listen, unquiet := b.askers, b.wanted, b.listen, b.unquiet
	mappings, overLimit, underPressure := b.mappings, b.overLimit, b.underPressure
	b.askers, b.listen, b.unquiet, b.mappings, b.overLimit, b.underPressure = 0, false, false, nil, 0, 0
	b.mu.Unlock()

	for _, i := range p.arrived {
		p.adopt(t.flows.at(i))
	}
	for ; askers != 0; askers &= askers - 1 {
		i := bits.TrailingZeros32(askers)
		p.grant(&wanted[i], t.pairs.shards[i])
	}
	t.evictRequested(overLimit, underPressure)
	for _, guest := range mappings {
		p.udp.tendMapping(guest)
	}
	if listen {
		p.takeListeners()
	}
	if listen || unquiet {
		p.settle()
	}
}

// grant lets a flow go to another pair when the flow has its next turn, which is this one of the Port's.
func (p *Port) grant(key *flowKey, to *shard) {
	f := p.shard.flows.lookup(key)
	if f == nil || !p.shard.flows.IsOf(f.index, p.shard.me) {
		to.post.nudge()
		return
	}
	if p.isDeparting() { // whoever asks is another guest
		p.drop(f, p.departure.cause)
		to.post.nudge()
		return
	}
	p.shard.letGo(f, to)
}

// letGo lets f go to another pair when it has its next turn. Who was to get it before looks again.
func (s *shard) letGo(f *flow, to *shard) {
	if f.bits&leaving != 0 && uint32(f.to) != to.id {
		s.pairs.shards[f.to].post.nudge()
	}
	f.bits |= leaving
	f.to = uint8(to.id)
	s.run.move(s.flows, &s.starved)
	s.run.push(s.flows, f)
}

// handOver gives a flow, which stands on no run list, to the pair that it is to go to.
func (p *Port) handOver(f *flow) {
	to := p.shard.pairs.shards[f.to]
	f.bits &^= leaving
	c := f.class
	p.shard.wheel.Leave(f.index)
	p.shard.leaveClass(f)
	f.class = c // for the one who adopts it
	if f.fd >= 0 && f.bits&shared == 0 {
		p.shard.worker.Unregister(int(f.fd))
	}
	p.shard.flows.Send(f.index, to.me)
	if !to.post.put(func(b *postbox) { b.flows = append(b.flows, f.index) }) {
		p.adopt(f)
		p.drop(f, stats.EndClosed)
		return
	}
	p.shard.counters.FlowsMoved++
}

// adopt takes a flow that was handed over.
func (p *Port) adopt(f *flow) {
	p.shard.flows.Own(f.index, p.shard.me)
	if c := f.class; c != classNone {
		f.class = classNone
		p.shard.joinClass(f, c)
	}
	p.shard.wheel.Join(f.index)
	if f.fd >= 0 && f.bits&shared == 0 {
		if err := p.shard.register(f); err != nil {
			p.shard.hit(limits.Host)
			p.drop(f, stats.EndNoRoom)
			return
		}
	}
	if p.isDeparting() {
		p.drop(f, p.departure.cause)
		return
	}
	if !p.shard.connected && p.shard.gone != frontEndGone {
		p.drop(f, stats.EndGuestGone)
		return
	}
	if p.udp.isOrphan(f) {
		p.shard.remove(f)
		return
	}
	p.shard.run.push(p.shard.flows, f)
	if f.state == stateOpen {
		p.tcp.watchAdopted(f)
	}
	if !p.judgeAdopted(f) {
		return
	}
	if to := p.shard.pairs.lowest(); to != nil && !p.shard.receiving {
		p.shard.letGo(f, to) // this pair has ceased to run meanwhile
	}
}

// ringsChanged tells the others whether this pair runs, and leaves to them what it cannot serve.
func (p *Port) ringsChanged() {
	bit := uint32(1) << p.shard.id
	before := p.shard.pairs.running.Load()
	if p.shard.receiving {
		p.shard.pairs.running.Or(bit)
	} else {
		p.shard.pairs.running.And(^bit)
	}
	if p.shard.pairs.running.Load() == before {
		return
	}
	for _, q := range p.shard.pairs.shards {
		q.post.put(func(b *postbox) { b.unquiet = true })
	}
}

// othersRun tells whether the receive ring of another pair of the guest runs.
func (s *shard) othersRun() bool { return s.pairs.running.Load()&^(1<<s.id) != 0 }

// settle gives the listeners, and if this pair does not run all its flows and mappings, to the lowest pair that runs.
func (p *Port) settle() {
	to := p.shard.pairs.lowest()
	if to == nil || to == p.shard {
		return
	}
	if p.shard.listening {
		p.giveListeners(to)
	}
	if !p.shard.receiving {
		p.udp.giveMappings(to)
	}
	if !p.shard.receiving && !p.isDeparting() {
		p.shard.flows.each(p.shard.me, func(f *flow) {
			p.tcp.probeAfterRestart(f) // the driver may be new
			p.shard.letGo(f, to)
		})
	}
}

func (p *Port) giveListeners(to *shard) {
	if !to.post.put(func(b *postbox) { b.listen = true }) {
		return
	}
	p.shard.listening = false
	p.groups.stopListeningToGroups()
	p.listeners.quitForwards()
}

func (p *Port) takeListeners() {
	p.shard.listening = true
	if p.listenToHost() != nil {
		p.shard.hit(limits.Host)
	}
}

// retirement keeps records of flows that are over until no other thread can be looking at them.
type retirement struct {
	limbo []uint32 // those that were unlinked since
	grace []uint32 // those that wait
	turns [maxPairs]uint64
}

// retire frees the record of a flow that is over, as soon as all turns in which a lookup may have found it have ended.
func (s *shard) retire(f *flow) {
	if s.alone() {
		s.release(f)
		return
	}
	if f.bits&leaving != 0 {
		s.pairs.shards[f.to].post.nudge() // who asked for it waits
	}
	s.retired.limbo = append(s.retired.limbo, f.index)
}

// recycle frees what has waited long enough, and lets the next ones wait.
func (s *shard) recycle() {
	r := &s.retired
	if len(r.grace) > 0 && s.graceOver() {
		for _, i := range r.grace {
			s.release(s.flows.at(i))
		}
		r.grace = r.grace[:0]
	}
	if len(r.grace) > 0 || len(r.limbo) == 0 {
		return
	}
	r.grace, r.limbo = r.limbo, r.grace
	for i, q := range s.pairs.shards {
		r.turns[i] = q.turns.Load()
	}
}

// graceOver tells whether every turn of another pair that had begun before has ended.
func (s *shard) graceOver() bool {
	for i, q := range s.pairs.shards {
		during := s.retired.turns[i]&1 != 0
		if q != s && during && q.turns.Load() == s.retired.turns[i] {
			return false
		}
	}
	return true
}

// closePost ends what others may leave, and takes what they have left.
func (p *Port) closePost() {
	if p.shard.alone() {
		return
	}
	b := &p.shard.post
	b.mu.Lock()
	b.closed = true
	left := b.flows
	b.flows = nil
	b.mu.Unlock()
	for _, i := range left {
		p.adopt(p.shard.flows.at(i))
	}
	p.abandonAll(stats.EndClosed)
	if p.shard.worker != nil {
		p.shard.worker.Unregister(b.fd)
	}
	_ = unix.Close(b.fd)
}

// release frees the record of a flow, which nobody can be looking at.
func (s *shard) release(f *flow) {
	if f.key.Proto == netpkt.UDP {
		s.hooks.released(f)
	}
	s.flows.Release(f.index)
}
