package udp

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
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
	mu sync.Mutex // guards all but what SharedSocket says
	of map[ipaddr.Endpoint]*mapping
}

type mapping struct {
	listeners.SharedSocket
	users  int                   // flows
	sentTo map[ipaddr.Addr]int32 // of them, by the address that the guest has sent to
	reader *shard.Shard          // nil if it is closed
	index  uint32                // of the reader's listener
	isRead bool                  // the reader has it in its epoll set
}

// viaMapping is what flows call a mapping: there is one for each port of the guest, so the flow's key tells the rest.
const viaMapping = ^uint32(0)

// find returns the mapping of a port of the guest, nil if it has none. It stays as long as a flow has it.
func (s *mappings) find(guest ipaddr.Endpoint) *mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[guest]
}

// CountMappings returns how many ports of the guest have a mapping.
func (g *Guest) CountMappings() int {
	g.mappings.mu.Lock()
	defer g.mappings.mu.Unlock()
	return len(g.mappings.of)
}

// isMapped tells whether there is a mapping for the guest's end of a flow.
func (e *Engine) isMapped(key *flowtable.Key) bool {
	return e.guest.mappings.find(key.GuestSide()) != nil
}

// Share makes a flow for the guest's first datagram to somebody that leaves by a mapping.
func (e *Engine) Share(t *shard.Turn, key *flowtable.Key, to ipaddr.Endpoint, c shard.Class) (*shard.Flow, shard.Where) {
	guest := key.GuestSide()
	m := e.joinMapping(t, guest, &to.Addr)
	if m == nil {
		return nil, shard.Nowhere
	}
	f, at := t.CreateWith(key, int(m.FD), shard.StateActive, shard.SharedSocket, c, e.begin(association{peer: to, via: viaMapping}))
	if f == nil {
		e.quitMapping(guest, &to.Addr)
		return nil, at
	}
	t.Counters.UDPFlows++
	return f, shard.Here
}

// joinMapping adds a flow to the mapping of a port of the guest, after making it if need be; nil if that cannot be done.
func (e *Engine) joinMapping(t *shard.Turn, guest ipaddr.Endpoint, to *ipaddr.Addr) *mapping {
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

func (e *Engine) newMapping(t *shard.Turn, guest ipaddr.Endpoint) *mapping {
	fd, err := unix.Socket(guest.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.OverLimit(limits.Host)
		return nil
	}
	m := &mapping{SharedSocket: listeners.SharedSocket{
		FD: int32(fd), Via: viaMapping, Guest: guest, Sender: hostsock.Sender{V6: !guest.Addr.Is4()},
	}, reader: e.shard, sentTo: map[ipaddr.Addr]int32{}}
	e.startRead(m)
	if !m.isRead {
		_ = unix.Close(fd)
		return nil
	}
	if t.Pairs.Memory.IsPressed() {
		t.LookAt(m.FD, &m.Memory, shard.Datagrams) // it begins with a small buffer
	}
	return m
}

// startRead lets this pair, which is m's reader, receive what comes for it.
func (e *Engine) startRead(m *mapping) {
	l := e.listeners.AllocSlot()
	if err := e.shard.Worker.RegisterInput(int(m.FD), shard.Token(shard.TokenMapping, 0, l.Index)); err != nil {
		e.shard.OverLimit(limits.Host)
		e.listeners.FreeSlot(l)
		return
	}
	*l = listeners.Listener{Socket: forward.Socket{FD: m.FD}, Proto: netpkt.UDP, Guest: m.Guest, Index: l.Index, Shared: &m.SharedSocket}
	l.Receiver.GRO = e.prepareSocket(int(m.FD), &m.Guest.Addr, &m.Guest.Addr)
	m.index, m.isRead = l.Index, true
}

// stopRead undoes hear.
func (e *Engine) stopRead(m *mapping) {
	if !m.isRead {
		return
	}
	e.shard.Worker.Unregister(int(m.FD))
	e.listeners.FreeSlot(e.listeners.OfMapping(m.index))
	m.isRead = false
}

// quitMapping takes a flow off the mapping of a port of the guest, which sent to an address.
func (e *Engine) quitMapping(guest ipaddr.Endpoint, to *ipaddr.Addr) {
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

// OnClosing sends what f still has to send, and takes it off its mapping, if it has one: it is about to end.
func (e *Engine) OnClosing(t *shard.Turn, f *shard.Flow) {
	udp := e.of(f)
	if udp.first != 0 {
		e.SendQueued(t) // it was alive when they came
	}
	if f.FD >= 0 && f.Bits&shard.SharedSocket != 0 && udp.via == viaMapping {
		e.quitMapping(f.Key.GuestSide(), &udp.peer.Addr)
	}
}

// endMapping closes the socket of a mapping that nobody reads but this pair.
func (e *Engine) endMapping(m *mapping) {
	e.stopRead(m)
	delete(e.guest.mappings.of, m.Guest)
	_ = unix.Close(int(m.FD))
	e.shard.Pairs.Memory.Forget(&m.Memory)
}

// TendMapping does what is to be done for a mapping that was given to this pair, or whose last flow is gone.
func (e *Engine) TendMapping(guest ipaddr.Endpoint) {
	s := &e.guest.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	switch {
	case m == nil || m.reader != e.shard: // somebody was faster
	case m.users == 0:
		e.endMapping(m)
	case !m.isRead:
		e.startRead(m)
	}
}

// MoveMappings gives all that this pair reads to another one.
func (e *Engine) MoveMappings(to *shard.Shard) {
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
		e.stopRead(m)
		m.reader = to
	}
}

// CloseMappings ends what this pair reads. Flows of other pairs may send by it as long as they are.
func (e *Engine) CloseMappings() {
	s := &e.guest.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.of {
		if m.reader != e.shard {
			continue
		}
		e.stopRead(m)
		if m.reader = nil; m.users == 0 {
			e.endMapping(m)
		}
	}
}

// LookAtSharedSockets looks at the sockets that flows share.
func (e *Engine) LookAtSharedSockets(t *shard.Turn) {
	for l := range e.listeners.Receiving() {
		if l.Shared != nil && l.FD >= 0 {
			t.LookAt(l.Shared.FD, &l.Shared.Memory, shard.Datagrams)
		}
	}
}

// IsOfMapping reports whether a flow leaves by a mapping.
func (e *Engine) IsOfMapping(f *shard.Flow) bool {
	return f.Bits&shard.SharedSocket != 0 && e.of(f).via == viaMapping
}

// PeerOf returns where the datagrams go of a flow that shares its socket.
func (e *Engine) PeerOf(f *shard.Flow) *ipaddr.Endpoint { return &e.of(f).peer }

// OnReleased gives back what a flow has held that nobody can be looking at any more.
func (e *Engine) OnReleased(f *shard.Flow) { e.guest.ways.give(e.of(f).way) }
