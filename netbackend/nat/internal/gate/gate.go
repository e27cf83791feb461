package gate

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
)

// The host's kernel completes a connection to a forward before the engine, let alone the guest, learns of it. A gate makes
// the host's port refuse connections while the guest's port would: the port is listened on only as long as the guest's
// answers. The socket stays bound all the time, so that nobody else gets the port, and shutdown(2) and listen(2) shut and
// open it.
//
// Whether the guest's port answers is found out by probes: a SYN from the gateway's address, and a reset for the SYN-ACK
// that comes of it. The handshake is never completed, so accept(2) in the guest does not return. The engine probes
//
//   - when the guest's rings start, and as long as the gate is shut: after 50 ms, and then after twice the time, up to 1 s;
//   - when the guest ends a connection, for that may be the last that is heard of a service;
//   - every 5 s while the gate is open. That is for services that end while nobody is connected: without it, the next
//     client would be accepted and reset instead of refused, once. A frame each way and a reset in 5 s are nothing to a
//     guest, and shorter intervals would serve nobody, since a refusal by the guest shuts the gate at once.
//
// With several queue pairs, the one with the listeners probes, and any may get the answer, or learn that the guest has
// ended a connection. So gates are shared by all, under a lock, which is taken once a probe or connection.
//
// A gate that is open is shut by a refusal, not by silence: a guest whose backlog is full does not answer either, and its
// clients are to try again.

const (
	firstProbe = int64(50e6)
	lastProbe  = int64(1e9)
	openProbe  = int64(5e9)
)

// Keeper opens and shuts the gates.
type Keeper struct {
	shard *shard.Shard
	link  *link.Layer
	gates *Gates
}

// SetUp makes that of a queue pair.
func (e *Keeper) SetUp(s *shard.Shard, link *link.Layer, g *Gates) {
	*e = Keeper{shard: s, link: link, gates: g}
}

// Gates are the gates of a guest. Any queue pair may use them.
type Gates struct {
	mu  sync.Mutex
	all atomic.Pointer[gateMap] // it is replaced by who has mu, and does not change itself
	at  atomic.Int64            // when one of them is to be probed, 0 for never
}

// gateMap are gates by the port of the guest.
type gateMap map[ipaddr.Endpoint]*gate

// gate is what is known of a TCP port of the guest to which gated forwards lead.
type gate struct {
	listeners []*listeners.Listener
	open      bool
	to        ipaddr.Endpoint
	key       flowtable.Key // of the last probe
	iss       seqnum.Value  // of the last probe
	at        int64         // when to probe again
	probed    int64         // when that was done last
	delay     int64         // between probes while it is shut
}

// Begin makes the gates of the first forwards.
func (s *Gates) Begin(forwards []*listeners.Listener) {
	s.all.Store(&gateMap{})
	s.replace(nil, forwards)
	s.at.Store(0) // the guest is not there yet, see CloseGates
}

// replace takes forwards from their gates, and gives others gates: one for each port of the guest to which gated forwards lead. A gate
// without forwards goes, and one that is new is probed at once. Any goroutine may call it.
func (s *Gates) replace(quit, add []*listeners.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(*s.all.Load())
	for _, gone := range quit {
		if g := all[gone.Guest]; g != nil {
			g.listeners = slices.DeleteFunc(g.listeners, func(l *listeners.Listener) bool { return l == gone })
			if len(g.listeners) == 0 {
				delete(all, gone.Guest)
			}
		}
	}
	for _, l := range add {
		if l.ShutNow != nil {
			s.add(all, l)
		}
	}
	s.all.Store(&all)
}

// ReplaceGates takes forwards from their gates, and gives others gates. Any goroutine may call it.
func (e *Keeper) ReplaceGates(quit, add []*listeners.Listener) { e.gates.replace(quit, add) }

// add gives a forward that is shut its gate. If that is open, the guest is asked again: then the port is opened, too.
func (s *Gates) add(all gateMap, l *listeners.Listener) {
	g := all[l.Guest]
	if g == nil {
		g = &gate{to: l.Guest, delay: firstProbe}
		all[l.Guest] = g
	}
	g.listeners = append(g.listeners, l)
	g.at = 1 // long ago
	s.at.Store(1)
}

// of returns the gate of a port of the guest, nil if it has none.
func (s *Gates) of(key *flowtable.Key) *gate {
	all := *s.all.Load()
	if len(all) == 0 {
		return nil
	}
	return all[ipaddr.Endpoint{Addr: key.Guest, Port: key.GuestPort}]
}

// CloseGates shuts all gates: the guest is gone, or another one begins, who is asked at once.
func (e *Keeper) CloseGates() {
	s := e.gates
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range *s.all.Load() {
		e.closeGate(g)
		g.at = max(e.shard.LastTurn, 1) // 0 would be never
		s.at.Store(g.at)
	}
}

// RunGateTimers probes where it is time.
func (e *Keeper) RunGateTimers(t *shard.Turn) {
	if at := e.Next(); at != 0 && t.Now >= at {
		e.runGateTimers(t)
	}
}

func (e *Keeper) runGateTimers(t *shard.Turn) {
	s := e.gates
	s.mu.Lock()
	defer s.mu.Unlock()
	next := int64(0)
	for _, g := range *s.all.Load() {
		if g.at <= t.Now {
			e.probe(t, g)
		}
		next = netbackend.Earlier(next, g.at)
	}
	s.at.Store(next)
}

// Next returns when RunGateTimers has something to do, 0 for never.
func (e *Keeper) Next() int64 {
	if !e.shard.Leads() {
		return 0
	}
	return e.gates.at.Load()
}

// probe asks the guest's port whether it takes connections. If it is not known which host of the guest has the port, the link is
// asked first.
func (e *Keeper) probe(t *shard.Turn, g *gate) {
	g.probed = t.Now
	if g.open {
		g.at = t.Now + openProbe
	} else {
		g.at = t.Now + g.delay
		g.delay = min(2*g.delay, lastProbe)
	}
	if t.To = t.Hosts.User(&g.to.Addr); t.To == hosts.Any {
		e.link.AskOnce(t, g.to.Addr)
		if t.Hosts.MAC(hosts.Any) == 0 || g.delay <= 2*firstProbe {
			return
		}
	}
	g.key = flowtable.Key{Guest: g.to.Addr, GuestPort: g.to.Port, Proto: netpkt.TCP, Remote: t.Nets.Of(&g.to.Addr).Gateway}
	g.key.RemotePort = e.probePort(t, &g.key)
	if !t.FreePort(&g.key) {
		return
	}
	g.iss = seqnum.From(t.Identity.Initial(&g.key, t.Now))
	t.Counters.Knocks++
	tcp.SendControlSegment(t, &g.key, netpkt.SYN, g.iss, seqnum.Value{}) // if it is lost, there will be another one
}

// probePort chooses a port for a probe. Clients do not begin connections from these (RFC 6335 section 6).
func (e *Keeper) probePort(t *shard.Turn, key *flowtable.Key) uint16 {
	const first, ports = 512, 512
	return first + uint16(t.Identity.Initial(key, t.Now)>>16)%ports
}

// OnProbeReply takes a segment without a connection into account, and tells whether it answers a probe.
func (e *Keeper) OnProbeReply(t *shard.Turn, key *flowtable.Key, flags uint8, ack seqnum.Value) bool {
	g := e.gates.of(key)
	if g == nil {
		return false
	}
	e.gates.mu.Lock()
	defer e.gates.mu.Unlock()
	if g.key != *key || flags&netpkt.ACK == 0 || ack != g.iss.Plus(1) {
		return false
	}
	switch {
	case flags&netpkt.RST != 0:
		e.closeGate(g)
	case flags&netpkt.SYN != 0:
		e.openGate(t, g)
	}
	return true
}

// ProbeFailed takes note that the segment of key with a sequence number did not get to the guest, and reports whether it was a probe.
func (e *Keeper) ProbeFailed(key *flowtable.Key, seq seqnum.Value) bool {
	g := e.gates.of(key)
	if g == nil {
		return false
	}
	e.gates.mu.Lock()
	defer e.gates.mu.Unlock()
	if g.key != *key || g.iss != seq {
		return false
	}
	e.shard.Counters.ReportsHeeded++
	e.closeGate(g)
	return true
}

// OnGuestRefused notes that the guest has refused a client.
func (e *Keeper) OnGuestRefused(key *flowtable.Key) {
	e.withOpenGate(key, e.closeGate)
}

// OnGuestClosed notes that the guest has ended a connection.
func (e *Keeper) OnGuestClosed(t *shard.Turn, key *flowtable.Key) {
	e.withOpenGate(key, func(g *gate) { e.probeAt(g, max(t.Now, g.probed+firstProbe)) })
}

// withOpenGate calls fn for the gate of a port of the guest, if it has one that is open.
func (e *Keeper) withOpenGate(key *flowtable.Key, fn func(*gate)) {
	g := e.gates.of(key)
	if g == nil {
		return
	}
	e.gates.mu.Lock()
	defer e.gates.mu.Unlock()
	if g.open {
		fn(g)
	}
}

// What follows is for who has the lock.

// probeAt brings the next probe forward.
func (e *Keeper) probeAt(g *gate, at int64) {
	s := e.gates
	g.at = min(g.at, at)
	s.at.Store(netbackend.Earlier(s.at.Load(), g.at))
	if to := e.shard.Pairs.Lowest(); to != nil && to != e.shard {
		to.Wake() // it has the listeners, and sleeps until it was to probe next
	}
}

// closeGate makes the host's ports refuse connections. Those that the kernel has completed, and the engine not taken, are
// reset.
func (e *Keeper) closeGate(g *gate) {
	if !g.open {
		return
	}
	e.shard.Counters.GatesShut++
	for _, l := range g.listeners {
		l.Shut()
	}
	g.open, g.delay = false, firstProbe
	e.probeAt(g, e.shard.LastTurn+firstProbe)
}

// openGate makes the host's ports take connections. One that cannot is tried again with the next probe.
func (e *Keeper) openGate(t *shard.Turn, g *gate) {
	for _, l := range g.listeners {
		if err := l.Open(); err != nil {
			t.Warn("the port of a gated forward cannot be opened", "err", err.Error())
		}
	}
	if !g.open {
		t.Counters.GatesOpened++
		g.open, g.at = true, t.Now+openProbe
	}
}
