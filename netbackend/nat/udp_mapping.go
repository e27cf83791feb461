package nat

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// With Config.EndpointIndependent, all that a port of the guest sends leaves by one port of the host, whomever it goes to
// (RFC 4787 section 4.1). Programs that tell each other their ports through a third one, as those behind other NATs do,
// then find each other. What comes in must be from somebody the guest has sent to, unless [Filtering] says otherwise.
//
// Such a socket is a forward that nobody asked for: it is not connected, flows share it, and it ends with the last of them.

// mappings are those of a guest, by its ports. Its queue pairs share them: flows of any pair send by a mapping's socket, and
// one pair reads it, that which made it as long as its receive ring runs. Only the reader closes the socket, for only it
// knows that it is not just receiving; who takes the last flow off a mapping leaves that to it, in its mailbox.
type mappings struct {
	mu sync.Mutex // guards all but what sharedSocket says
	of map[ipaddr.Endpoint]*mapping
}

type mapping struct {
	sharedSocket
	users  int                   // flows
	sentTo map[ipaddr.Addr]int32 // of them, by the address that the guest has sent to
	reader *shard.Shard          // nil if it is closed
	index  uint32                // of the reader's listener
	heard  bool                  // the reader has it in its epoll set
}

// viaMapping is what flows call a mapping: there is one for each port of the guest, so the flow's key tells the rest.
const viaMapping = ^uint32(0)

// find returns the mapping of a port of the guest, nil if it has none. It stays as long as a flow has it.
func (s *mappings) find(guest ipaddr.Endpoint) *mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[guest]
}

// countMappings returns how many ports of the guest have a mapping.
func (g *udpGuest) countMappings() int {
	g.mappings.mu.Lock()
	defer g.mappings.mu.Unlock()
	return len(g.mappings.of)
}

// isMapped tells whether there is a mapping for the guest's end of a flow.
func (e *udpEngine) isMapped(key *flowtable.Key) bool {
	return e.guest.mappings.find(key.GuestSide()) != nil
}

// share makes a flow for the guest's first datagram to somebody that leaves by a mapping.
func (e *udpEngine) share(t *shard.Turn, key *flowtable.Key, to ipaddr.Endpoint, c shard.Class) (*shard.Flow, shard.Where) {
	guest := key.GuestSide()
	m := e.joinMapping(t, guest, &to.Addr)
	if m == nil {
		return nil, shard.Nowhere
	}
	f, at := t.CreateWith(key, int(m.fd), shard.StateActive, shard.SharedSocket, c, e.begin(udpFlow{peer: to, via: viaMapping}))
	if f == nil {
		e.quitMapping(guest, &to.Addr)
		return nil, at
	}
	t.Counters.UDPFlows++
	return f, shard.Here
}

// joinMapping adds a flow to the mapping of a port of the guest, after making it if need be; nil if that cannot be done.
func (e *udpEngine) joinMapping(t *shard.Turn, guest ipaddr.Endpoint, to *ipaddr.Addr) *mapping {
	s := &e.guest.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	if m == nil {
		if m = e.newMapping(t, guest); m == nil {
			return nil
		}
		s.of[guest] = m
	}
	m.sentTo[*to]++
	if m.users++; m.users == 1 {
		t.CountSockets(1)
	}
	return m
}

func (e *udpEngine) newMapping(t *shard.Turn, guest ipaddr.Endpoint) *mapping {
	fd, err := unix.Socket(guest.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.OverLimit(limits.Host)
		return nil
	}
	m := &mapping{sharedSocket: sharedSocket{
		fd: int32(fd), via: viaMapping, guest: guest, sender: hostsock.Sender{V6: !guest.Addr.Is4()},
	}, reader: e.shard, sentTo: map[ipaddr.Addr]int32{}}
	e.hear(m)
	if !m.heard {
		_ = unix.Close(fd)
		return nil
	}
	if t.Pairs.Memory.IsPressed() {
		t.LookAt(m.fd, &m.memory, shard.Datagrams) // it begins with a small buffer
	}
	return m
}

// hear lets this pair, which is m's reader, receive what comes for it.
func (e *udpEngine) hear(m *mapping) {
	l := e.listeners.vacancy()
	if err := e.shard.Worker.RegisterInput(int(m.fd), shard.Token(shard.TokenMapping, 0, l.index)); err != nil {
		e.shard.OverLimit(limits.Host)
		e.listeners.vacate(l)
		return
	}
	*l = listener{Socket: forward.Socket{FD: m.fd}, proto: netpkt.UDP, to: m.guest, index: l.index, shared: &m.sharedSocket}
	l.receiver.gro = e.prepareUDP(int(m.fd), &m.guest.Addr, &m.guest.Addr)
	m.index, m.heard = l.index, true
}

// unhear undoes hear.
func (e *udpEngine) unhear(m *mapping) {
	if !m.heard {
		return
	}
	e.shard.Worker.Unregister(int(m.fd))
	e.listeners.vacate(e.listeners.ofMapping(m.index))
	m.heard = false
}

// quitMapping takes a flow off the mapping of a port of the guest, which sent to an address.
func (e *udpEngine) quitMapping(guest ipaddr.Endpoint, to *ipaddr.Addr) {
	s := &e.guest.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	if m.sentTo[*to]--; m.sentTo[*to] == 0 {
		delete(m.sentTo, *to)
	}
	if m.users--; m.users > 0 {
		return
	}
	e.shard.CountSockets(-1) // now, and not when it is closed: who makes room is not to go on for its sake
	if m.reader == nil || m.reader == e.shard {
		e.endMapping(m)
		return
	}
	m.reader.SendMapping(guest)
}

// leaveSocket sends what f still has to send, and takes it off its mapping, if it has one: it is about to end.
func (e *udpEngine) leaveSocket(t *shard.Turn, f *shard.Flow) {
	udp := e.of(f)
	if udp.first != 0 {
		e.sendQueued(t) // it was alive when they came
	}
	if f.FD >= 0 && f.Bits&shard.SharedSocket != 0 && udp.via == viaMapping {
		e.quitMapping(f.Key.GuestSide(), &udp.peer.Addr)
	}
}

// endMapping closes the socket of a mapping that nobody reads but this pair.
func (e *udpEngine) endMapping(m *mapping) {
	e.unhear(m)
	delete(e.guest.mappings.of, m.guest)
	_ = unix.Close(int(m.fd))
	e.shard.Pairs.Memory.Forget(&m.memory)
}

// tendMapping does what is to be done for a mapping that was given to this pair, or whose last flow is gone.
func (e *udpEngine) tendMapping(guest ipaddr.Endpoint) {
	s := &e.guest.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	switch {
	case m == nil || m.reader != e.shard: // somebody was faster
	case m.users == 0:
		e.endMapping(m)
	case !m.heard:
		e.hear(m)
	}
}

// giveMappings gives all that this pair reads to another one.
func (e *udpEngine) giveMappings(to *shard.Shard) {
	s := &e.guest.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	for guest, m := range s.of {
		if m.reader != e.shard {
			continue
		}
		if !to.SendMapping(guest) {
			return
		}
		e.unhear(m)
		m.reader = to
	}
}

// closeMappings ends what this pair reads. Flows of other pairs may send by it as long as they are.
func (e *udpEngine) closeMappings() {
	s := &e.guest.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.of {
		if m.reader != e.shard {
			continue
		}
		e.unhear(m)
		if m.reader = nil; m.users == 0 {
			e.endMapping(m)
		}
	}
}

// lookAtListeners looks at the sockets that flows share.
func (e *udpEngine) lookAtListeners(t *shard.Turn) {
	for l := range e.listeners.read() {
		if l.shared != nil && l.FD >= 0 {
			t.LookAt(l.shared.fd, &l.shared.memory, shard.Datagrams)
		}
	}
}

// isOfMapping reports whether a flow leaves by a mapping.
func (e *udpEngine) isOfMapping(f *shard.Flow) bool {
	return f.Bits&shard.SharedSocket != 0 && e.of(f).via == viaMapping
}

// peerOf returns where the datagrams go of a flow that shares its socket.
func (e *udpEngine) peerOf(f *shard.Flow) *ipaddr.Endpoint { return &e.of(f).peer }

// released gives back what a flow has held that nobody can be looking at any more.
func (e *udpEngine) released(f *shard.Flow) { e.guest.ways.give(e.of(f).way) }
