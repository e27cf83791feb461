package nat

import (
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// The host's kernel completes a connection to a forward before the engine, let alone the guest, learns of it. A gate makes
// the host's port refuse connections while the guest's port would: the port is listened on only as long as the guest's
// answers. The socket stays bound all the time, so that nobody else gets the port, and shutdown(2) and listen(2) shut and
// open it.
//
// Whether the guest's port answers is found out by knocking: a SYN from the gateway's address, and a reset for the SYN-ACK
// that comes of it. The handshake is never completed, so accept(2) in the guest does not return. The engine knocks
//
//   - when the guest's rings start, and as long as the gate is shut: after 50 ms, and then after twice the time, up to 1 s;
//   - when the guest ends a connection, for that may be the last that is heard of a service;
//   - every 5 s while the gate is open. That is for services that end while nobody is connected: without it, the next
//     client would be accepted and reset instead of refused, once. A frame each way and a reset in 5 s are nothing to a
//     guest, and shorter intervals would serve nobody, since a refusal by the guest shuts the gate at once.
//
// With several queue pairs, the one with the listeners knocks, and any may get the answer, or learn that the guest has
// ended a connection. So gates are shared by all, under a lock, which is taken once a knock or connection.
//
// A gate that is open is shut by a refusal, not by silence: a guest whose backlog is full does not answer either, and its
// clients are to try again.

const (
	firstKnock = int64(50e6)
	lastKnock  = int64(1e9)
	openKnock  = int64(5e9)
)

// gates are the gates of a guest. Any queue pair may use them.
type gates struct {
	mu  sync.Mutex
	all map[ipaddr.Endpoint]*gate // by the port of the guest; the map itself does not change
	at  atomic.Int64              // when one of them is to be knocked at, 0 for never
}

// gate is what is known of a TCP port of the guest to which gated forwards lead.
type gate struct {
	listeners []uint32
	open      bool
	to        ipaddr.Endpoint
	key       flowKey // of the last knock
	iss       uint32  // of the last knock
	at        int64   // when to knock again
	knocked   int64   // when that was done last
	delay     int64   // between knocks while it is shut
}

// add makes a gate for each port of the guest to which gated listeners lead.
func (s *gates) add(listen []listener) {
	s.all = map[ipaddr.Endpoint]*gate{}
	for i := range listen {
		l := &listen[i]
		if l.shutNow == nil {
			continue
		}
		g := s.all[l.to]
		if g == nil {
			g = &gate{to: l.to, delay: firstKnock}
			s.all[l.to] = g
		}
		g.listeners = append(g.listeners, uint32(i))
	}
}

// of returns the gate of a port of the guest, nil if it has none.
func (s *gates) of(key *flowKey) *gate {
	if len(s.all) == 0 {
		return nil
	}
	return s.all[ipaddr.Endpoint{Addr: key.guest, Port: key.guestPort}]
}

// shutGates shuts all gates: the guest is gone, or another one begins, who is asked at once.
func (p *Port) shutGates() {
	s := &p.pairs.gates
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.all {
		p.shutGate(g)
		g.at = max(p.now, 1) // 0 would be never
		s.at.Store(g.at)
	}
}

// tendGates knocks where it is time.
func (p *Port) tendGates() {
	if at := p.gateAt(); at == 0 || p.now < at {
		return
	}
	s := &p.pairs.gates
	s.mu.Lock()
	defer s.mu.Unlock()
	next := int64(0)
	for _, g := range s.all {
		if g.at <= p.now {
			p.knock(g)
		}
		next = netbackend.Earlier(next, g.at)
	}
	s.at.Store(next)
}

// gateAt returns when tendGates has something to do, 0 for never.
func (p *Port) gateAt() int64 {
	if !p.leads() {
		return 0
	}
	return p.pairs.gates.at.Load()
}

// knock asks the guest's port whether it takes connections. If it is not known which host of the guest has the port, the link is
// asked first.
func (p *Port) knock(g *gate) {
	g.knocked = p.now
	if g.open {
		g.at = p.now + openKnock
	} else {
		g.at = p.now + g.delay
		g.delay = min(2*g.delay, lastKnock)
	}
	if p.to = p.hosts.user(&g.to.Addr); p.to == anyHost {
		p.askOnce(g.to.Addr)
		if p.hosts.mac(anyHost) == 0 || g.delay <= 2*firstKnock {
			return
		}
	}
	g.key = flowKey{guest: g.to.Addr, guestPort: g.to.Port, proto: protoTCP, remote: p.nets.of(&g.to.Addr).gateway}
	g.key.remotePort = p.knockPort(&g.key)
	if !p.freePort(&g.key) {
		return
	}
	g.iss = p.identity.initial(&g.key, p.now)
	p.counters.Knocks++
	p.sendBare(&g.key, flagSYN, g.iss, 0) // if it is lost, there will be another one
}

// knockPort chooses a port for a knock. Clients do not begin connections from these (RFC 6335 section 6).
func (p *Port) knockPort(key *flowKey) uint16 {
	const first, ports = 512, 512
	return first + uint16(p.identity.initial(key, p.now)>>16)%ports
}

// answerKnock takes a segment without a connection into account, and tells whether it answers a knock.
func (p *Port) answerKnock(key *flowKey, s *segment) bool {
	g := p.pairs.gates.of(key)
	if g == nil {
		return false
	}
	p.pairs.gates.mu.Lock()
	defer p.pairs.gates.mu.Unlock()
	if g.key != *key || s.flags&flagACK == 0 || s.ack != g.iss+1 {
		return false
	}
	switch {
	case s.flags&flagRST != 0:
		p.shutGate(g)
	case s.flags&flagSYN != 0:
		p.openGate(g)
	}
	return true
}

// knockFailed takes note that a knock did not get to the guest's port, and tells whether r is about one.
func (p *Port) knockFailed(r *report) bool {
	g := p.pairs.gates.of(&r.key)
	if g == nil || r.complaint == doesNotFit {
		return false
	}
	p.pairs.gates.mu.Lock()
	defer p.pairs.gates.mu.Unlock()
	if g.key != r.key || g.iss != r.seq {
		return false
	}
	p.counters.ReportsHeeded++
	p.shutGate(g)
	return true
}

// refusedBy notes that the guest has refused a client.
func (p *Port) refusedBy(key *flowKey) {
	p.withOpenGate(key, p.shutGate)
}

// endedBy notes that the guest has ended a connection.
func (p *Port) endedBy(key *flowKey) {
	p.withOpenGate(key, func(g *gate) { p.knockAt(g, max(p.now, g.knocked+firstKnock)) })
}

// withOpenGate calls fn for the gate of a port of the guest, if it has one that is open.
func (p *Port) withOpenGate(key *flowKey, fn func(*gate)) {
	g := p.pairs.gates.of(key)
	if g == nil {
		return
	}
	p.pairs.gates.mu.Lock()
	defer p.pairs.gates.mu.Unlock()
	if g.open {
		fn(g)
	}
}

// What follows is for who has the lock.

// knockAt brings the next knock forward.
func (p *Port) knockAt(g *gate, at int64) {
	s := &p.pairs.gates
	g.at = min(g.at, at)
	s.at.Store(netbackend.Earlier(s.at.Load(), g.at))
	if to := p.pairs.lowest(); to != nil && to != p {
		to.post.nudge() // it has the listeners, and sleeps until it was to knock next
	}
}

// shutGate makes the host's ports refuse connections. Those that the kernel has completed, and the engine not taken, are
// reset.
func (p *Port) shutGate(g *gate) {
	if !g.open {
		return
	}
	p.counters.GatesShut++
	for _, i := range g.listeners {
		p.listen[i].shut()
	}
	g.open, g.delay = false, firstKnock
	p.knockAt(g, p.now+firstKnock)
}

// openGate makes the host's ports take connections. One that cannot is tried again with the next knock.
func (p *Port) openGate(g *gate) {
	for _, i := range g.listeners {
		if err := p.listen[i].open(); err != nil {
			p.warn("the port of a gated forward cannot be opened", "err", err.Error())
		}
	}
	if !g.open {
		p.counters.GatesOpened++
		g.open, g.at = true, p.now+openKnock
	}
}

// isShut tells whether the host's port refuses connections now. Any queue pair may call it.
func (l *listener) isShut() bool { return l.shutNow != nil && l.shutNow.Load() }

// shut makes the host's port refuse connections.
func (l *listener) shut() {
	l.shutNow.Store(true) // first: who accepts now is told of an error, and looks again
	l.Pause()
}

// open makes the host's port take connections again, unless it does.
func (l *listener) open() error {
	if !l.isShut() {
		return nil
	}
	// The event of the first client must not be passed over.
	if err := l.Resume(func() { l.shutNow.Store(false) }); err != nil {
		l.shutNow.Store(true)
		return err
	}
	return nil
}
