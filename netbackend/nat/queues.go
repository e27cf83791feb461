package nat

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/multicast"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// maxPairs is how many queue pairs a guest may have.
const maxPairs = 32

// Several queue pairs of a guest are Ports that share the table of flows, each on its worker's thread. A flow belongs to
// one of them, which has its socket in its epoll set and its timer in its wheel, and gives the guest its frames; nobody
// else touches the record. Drivers expect the frames of a flow on the pair by which they sent its last one (virtio 1.2
// section 5.1.6.5.6), so a flow moves there:
//
//   - A Port that gets a frame for a flow of another's ([Port.find]) leaves this frame and those behind it in the ring,
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

// pairs is what the queue pairs of a guest share beside the table of flows.
type pairs struct {
	ports     []*Port
	running   atomic.Uint32 // a bit for each pair whose receive ring runs
	open      atomic.Int32  // ports that are not closed yet
	gates     gates
	budgets   budgets
	newFlows  newFlows
	memory    kernelMemory
	changes   route.ChangeCount
	paths     pathTable
	ways      ways
	strangers bucket // judged of all that send to mappings
	sources   bucket // looks for another source address that errors may cause
	hosts     *hosts
	leases    leases
	told      told
	dns       *dns.Relay
	queries   stake // of the resolvers' places
	streams   nameStreams

	mappings    mappings
	advertiseAt atomic.Int64         // when the router is advertised in IPv6, 0 for never
	groups      *multicast.Reflector // nil without Config.Multicast
}

// lowest returns the lowest pair whose receive ring runs, nil if none does.
func (s *pairs) lowest() *Port {
	if r := s.running.Load(); r != 0 {
		return s.ports[bits.TrailingZeros32(r)]
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
	// thin and shed have a bit for each crowd of which others want a flow to go: if there are too many, or in any case.
	thin, shed uint
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
func (p *Port) find(key *flowKey) (*flow, where) {
	f := p.flows.lookup(key)
	if f == nil {
		return nil, nowhere
	}
	if !p.alone() && !p.owns(f) {
		return nil, elsewhere
	}
	if f.host != p.from {
		p.moved(f)
	}
	return f, here
}

// owns reports whether the record f belongs to this queue pair. If not, its owner is asked for it.
func (p *Port) owns(f *flow) bool {
	owner := p.flows.owner(f.index).Load()
	if owner == p.me {
		return true
	}
	if to := owner &^ transit; to != p.me && to != nobody {
		p.askFor(p.pairs.ports[to-1], &f.key)
	}
	return false
}

// askFor asks another Port for a flow. Asking twice, or for another one, changes what is asked for.
func (p *Port) askFor(owner *Port, key *flowKey) {
	owner.post.put(func(b *postbox) {
		b.askers |= 1 << p.id
		b.wanted[p.id] = *key
	})
}

// alone tells whether the guest has one queue pair only.
func (p *Port) alone() bool { return p.cfg.Queues == 1 }

// leads tells whether this pair does what the guest is to be told once, and without being asked.
func (p *Port) leads() bool { return p.listening && p.connected && p.receiving }

// beginTurn lets others know that this thread may look at any record from now on, endTurn that it does not any more.
func (p *Port) beginTurn() { p.turns.Add(1) }
func (p *Port) endTurn()   { p.turns.Add(1) }

// readPost does what others ask for.
func (p *Port) readPost() {
	if p.found != p.hosts.news.Load() {
		p.located()
	}
	if !p.post.any.Swap(false) {
		return
	}
	b := &p.post
	b.mu.Lock()
	p.arrived, b.flows = b.flows, p.arrived[:0]
	askers, wanted, listen, unquiet := b.askers, b.wanted, b.listen, b.unquiet
	mappings, thin, shed := b.mappings, b.thin, b.shed
	b.askers, b.listen, b.unquiet, b.mappings, b.thin, b.shed = 0, false, false, nil, 0, 0
	b.mu.Unlock()

	for _, i := range p.arrived {
		p.adopt(p.flows.at(i))
	}
	for ; askers != 0; askers &= askers - 1 {
		i := bits.TrailingZeros32(askers)
		p.grant(&wanted[i], p.pairs.ports[i])
	}
	p.makeRoom(thin, shed)
	for _, guest := range mappings {
		p.tendMapping(guest)
	}
	if listen {
		p.takeListeners()
	}
	if listen || unquiet {
		p.settle()
	}
}

// grant lets a flow go to another pair when the flow has its next turn, which is this one of the Port's.
func (p *Port) grant(key *flowKey, to *Port) {
	f := p.flows.lookup(key)
	if f == nil || p.flows.owner(f.index).Load() != p.me {
		to.post.nudge()
		return
	}
	p.letGo(f, to)
}

// letGo lets f go to another pair when it has its next turn. Who was to get it before looks again.
func (p *Port) letGo(f *flow, to *Port) {
	if f.bits&leaving != 0 && uint32(f.to) != to.id {
		p.pairs.ports[f.to].post.nudge()
	}
	f.bits |= leaving
	f.to = uint8(to.id)
	p.run.move(p.flows, &p.starved)
	p.run.push(p.flows, f)
}

// handOver gives a flow, which stands on no run list, to the pair that it is to go to.
func (p *Port) handOver(f *flow) {
	to := p.pairs.ports[f.to]
	f.bits &^= leaving
	deadline, c := f.deadline, f.crowd
	p.wheel.remove(f)
	p.leave(f)
	f.deadline, f.crowd = deadline, c // for the one who adopts it
	if f.fd >= 0 && f.bits&shared == 0 {
		p.worker.Unregister(int(f.fd))
	}
	p.flows.owner(f.index).Store(to.me | transit)
	if !to.post.put(func(b *postbox) { b.flows = append(b.flows, f.index) }) {
		p.adopt(f)
		p.abandon(f, endClosed)
		return
	}
	p.counters.FlowsMoved++
}

// adopt takes a flow that was handed over.
func (p *Port) adopt(f *flow) {
	p.flows.owner(f.index).Store(p.me)
	if c := f.crowd; c != noCrowd {
		f.crowd = noCrowd
		p.join(f, c)
	}
	if deadline := f.deadline; deadline != 0 {
		p.wheel.set(f, deadline)
	}
	if f.fd >= 0 && f.bits&shared == 0 {
		if err := p.register(f); err != nil {
			p.hit(limitHost)
			p.abandon(f, endNoRoom)
			return
		}
	}
	if !p.connected && p.gone != frontEndGone {
		p.abandon(f, endGuestGone)
		return
	}
	p.run.push(p.flows, f)
	if f.state == stateOpen {
		p.startWatch(f)
	}
	if p.reviewedLately() && !p.judgeAgain(f) {
		return
	}
	if to := p.pairs.lowest(); to != nil && !p.receiving {
		p.letGo(f, to) // this pair has ceased to run meanwhile
	}
}

// ringsChanged tells the others whether this pair runs, and leaves to them what it cannot serve.
func (p *Port) ringsChanged() {
	bit := uint32(1) << p.id
	before := p.pairs.running.Load()
	if p.receiving {
		p.pairs.running.Or(bit)
	} else {
		p.pairs.running.And(^bit)
	}
	if p.pairs.running.Load() == before {
		return
	}
	for _, q := range p.pairs.ports {
		q.post.put(func(b *postbox) { b.unquiet = true })
	}
}

// othersRun tells whether the receive ring of another pair of the guest runs.
func (p *Port) othersRun() bool { return p.pairs.running.Load()&^(1<<p.id) != 0 }

// settle gives the listeners, and if this pair does not run all its flows and mappings, to the lowest pair that runs.
func (p *Port) settle() {
	to := p.pairs.lowest()
	if to == nil || to == p {
		return
	}
	if p.listening {
		p.giveListeners(to)
	}
	if !p.receiving {
		p.giveMappings(to)
		p.flows.each(p.me, func(f *flow) {
			p.probeAfterRestart(f) // the driver may be new
			p.letGo(f, to)
		})
	}
}

func (p *Port) giveListeners(to *Port) {
	if !to.post.put(func(b *postbox) { b.listen = true }) {
		return
	}
	p.listening = false
	p.stopListeningToGroups()
	p.called = slices.DeleteFunc(p.called, func(i uint32) bool { return i < uint32(p.nForwards) })
	for i := range p.forwards() {
		p.worker.Unregister(int(p.listen[i].FD))
		p.listen[i].ready, p.listen[i].failed = false, false
	}
}

func (p *Port) takeListeners() {
	p.listening = true
	if p.registerListeners() != nil {
		p.hit(limitHost)
	}
}

// retirement keeps records of flows that are over until no other thread can be looking at them.
type retirement struct {
	limbo []uint32 // those that were unlinked since
	grace []uint32 // those that wait
	turns [maxPairs]uint64
}

// retire frees the record of a flow that is over, as soon as all turns in which a lookup may have found it have ended.
func (p *Port) retire(f *flow) {
	if p.alone() {
		p.release(f)
		return
	}
	if f.bits&leaving != 0 {
		p.pairs.ports[f.to].post.nudge() // who asked for it waits
	}
	p.retired.limbo = append(p.retired.limbo, f.index)
}

// recycle frees what has waited long enough, and lets the next ones wait.
func (p *Port) recycle() {
	r := &p.retired
	if len(r.grace) > 0 && p.graceOver() {
		for _, i := range r.grace {
			p.release(p.flows.at(i))
		}
		r.grace = r.grace[:0]
	}
	if len(r.grace) > 0 || len(r.limbo) == 0 {
		return
	}
	r.grace, r.limbo = r.limbo, r.grace
	for i, q := range p.pairs.ports {
		r.turns[i] = q.turns.Load()
	}
}

// graceOver tells whether every turn of another pair that had begun before has ended.
func (p *Port) graceOver() bool {
	for i, q := range p.pairs.ports {
		during := p.retired.turns[i]&1 != 0
		if q != p && during && q.turns.Load() == p.retired.turns[i] {
			return false
		}
	}
	return true
}

// closePost ends what others may leave, and takes what they have left.
func (p *Port) closePost() {
	if p.alone() {
		return
	}
	b := &p.post
	b.mu.Lock()
	b.closed = true
	left := b.flows
	b.flows = nil
	b.mu.Unlock()
	for _, i := range left {
		p.adopt(p.flows.at(i))
	}
	p.abandonAll(endClosed)
	if p.worker != nil {
		p.worker.Unregister(b.fd)
	}
	_ = unix.Close(b.fd)
}
