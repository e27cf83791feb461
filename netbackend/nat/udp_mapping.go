package nat

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// With Config.EndpointIndependent, all that a port of the guest sends leaves by one port of the host, whomever it goes to
// (RFC 4787 section 4.1). Programs that tell each other their ports through a third one, as those behind other NATs do,
// then find each other. What comes in must be from somebody the guest has sent to, unless [Filtering] says otherwise.
//
// Such a socket is a forward that nobody asked for: it is not connected, flows share it, and it ends with the last of them.

// mappings are those of a guest, by its ports. Its queue pairs share them: flows of any pair send by a mapping's socket, and
// one pair reads it, that which made it as long as its receive ring runs. Only the reader closes the socket, for only it
// knows that it is not just receiving; who takes the last flow off a mapping leaves that to it, in its postbox.
type mappings struct {
	mu sync.Mutex // guards all but what sharedSocket says
	of map[ipaddr.Endpoint]*mapping
}

type mapping struct {
	sharedSocket
	users  int                   // flows
	sentTo map[ipaddr.Addr]int32 // of them, by the address that the guest has sent to
	reader *Port                 // nil if it is closed
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

// isMapped tells whether there is a mapping for the guest's end of a flow.
func (p *Port) isMapped(key *flowKey) bool { return p.pairs.mappings.find(key.guestSide()) != nil }

// share makes a flow for the guest's first datagram to somebody that leaves by a mapping.
func (p *Port) share(key *flowKey, to ipaddr.Endpoint, c crowd) (*flow, where) {
	guest := key.guestSide()
	m := p.joinMapping(guest, &to.Addr)
	if m == nil {
		return nil, nowhere
	}
	f, at := p.createWith(key, int(m.fd), stateUDP, shared, c, udpFlow{peer: to, via: viaMapping})
	if f == nil {
		p.quitMapping(guest, &to.Addr)
		return nil, at
	}
	p.counters.UDPFlows++
	return f, here
}

// joinMapping adds a flow to the mapping of a port of the guest, after making it if need be; nil if that cannot be done.
func (p *Port) joinMapping(guest ipaddr.Endpoint, to *ipaddr.Addr) *mapping {
	s := &p.pairs.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	if m == nil {
		if m = p.newMapping(guest); m == nil {
			return nil
		}
		s.of[guest] = m
	}
	m.sentTo[*to]++
	if m.users++; m.users == 1 {
		p.flows.sockets.Add(1)
	}
	return m
}

func (p *Port) newMapping(guest ipaddr.Endpoint) *mapping {
	fd, err := unix.Socket(guest.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.hit(limitHost)
		return nil
	}
	m := &mapping{sharedSocket: sharedSocket{
		fd: int32(fd), via: viaMapping, guest: guest, sender: udpSender{v6: !guest.Addr.Is4()},
	}, reader: p, sentTo: map[ipaddr.Addr]int32{}}
	p.hear(m)
	if !m.heard {
		_ = unix.Close(fd)
		return nil
	}
	if p.pairs.memory.pressed() {
		p.lookAt(m.fd, &m.memory, datagrams) // it begins with a small buffer
	}
	return m
}

// hear lets this pair, which is m's reader, receive what comes for it.
func (p *Port) hear(m *mapping) {
	l := p.vacancy()
	if err := p.worker.RegisterInput(int(m.fd), token(tokenListener, 0, l.index)); err != nil {
		p.hit(limitHost)
		p.vacate(l)
		return
	}
	*l = listener{Socket: forward.Socket{FD: m.fd}, proto: protoUDP, to: m.guest, index: l.index, shared: &m.sharedSocket}
	l.receiver.gro = p.prepareUDP(int(m.fd), &m.guest.Addr, &m.guest.Addr)
	m.index, m.heard = l.index, true
}

// unhear undoes hear.
func (p *Port) unhear(m *mapping) {
	if !m.heard {
		return
	}
	p.worker.Unregister(int(m.fd))
	p.vacate(&p.listen[m.index])
	m.heard = false
}

// vacancy returns a free record for a listener.
func (p *Port) vacancy() *listener {
	if n := len(p.vacant); n > 0 {
		l := &p.listen[p.vacant[n-1]]
		p.vacant = p.vacant[:n-1]
		return l
	}
	p.listen = append(p.listen, listener{index: uint32(len(p.listen))})
	return &p.listen[len(p.listen)-1]
}

// vacate frees the record of a listener.
func (p *Port) vacate(l *listener) {
	*l = listener{Socket: forward.Socket{FD: -1}, index: l.index, proto: protoUDP}
	p.vacant = append(p.vacant, l.index)
}

// quitMapping takes a flow off the mapping of a port of the guest, which sent to an address.
func (p *Port) quitMapping(guest ipaddr.Endpoint, to *ipaddr.Addr) {
	s := &p.pairs.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	if m.sentTo[*to]--; m.sentTo[*to] == 0 {
		delete(m.sentTo, *to)
	}
	if m.users--; m.users > 0 {
		return
	}
	p.flows.sockets.Add(-1) // now, and not when it is closed: who makes room is not to go on for its sake
	if m.reader == nil || m.reader == p {
		p.endMapping(m)
		return
	}
	m.reader.post.put(func(b *postbox) { b.mappings = append(b.mappings, guest) })
}

// endMapping closes the socket of a mapping that nobody reads but this pair.
func (p *Port) endMapping(m *mapping) {
	p.unhear(m)
	delete(p.pairs.mappings.of, m.guest)
	_ = unix.Close(int(m.fd))
	p.pairs.memory.forget(&m.memory)
}

// tendMapping does what is to be done for a mapping that was given to this pair, or whose last flow is gone.
func (p *Port) tendMapping(guest ipaddr.Endpoint) {
	s := &p.pairs.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	switch {
	case m == nil || m.reader != p: // somebody was faster
	case m.users == 0:
		p.endMapping(m)
	case !m.heard:
		p.hear(m)
	}
}

// giveMappings gives all that this pair reads to another one.
func (p *Port) giveMappings(to *Port) {
	s := &p.pairs.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	for guest, m := range s.of {
		if m.reader != p {
			continue
		}
		if !to.post.put(func(b *postbox) { b.mappings = append(b.mappings, guest) }) {
			return
		}
		p.unhear(m)
		m.reader = to
	}
}

// closeMappings ends what this pair reads. Flows of other pairs may send by it as long as they are.
func (p *Port) closeMappings() {
	s := &p.pairs.mappings
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.of {
		if m.reader != p {
			continue
		}
		p.unhear(m)
		if m.reader = nil; m.users == 0 {
			p.endMapping(m)
		}
	}
}
