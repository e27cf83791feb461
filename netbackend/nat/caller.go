package nat

import (
	"encoding/binary"
	"hash/maphash"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
)

// callerPorts is how many ports a peer of a forward may have in the eyes of the guest: its own, and others where that is taken,
// by the same peer at another address of the host, or by a flow of the guest's own.
const callerPorts = 4

// callerOf returns who has sent message i of the batch.
func (p *Port) callerOf(s *sharedSocket, i int) (c hostsock.Caller) {
	c.Peer = p.batch.Peer(i)
	if s.asksWays {
		c.Local, c.Link = p.batch.Asked(i)
	}
	if c.Peer.Addr.IsLinkLocal() {
		c.Scope = p.batch.Scope(i)
	}
	return c
}

// callerFlow finds the flow of a caller. If there is none, free is a key for it, which is the zero key if it cannot have one.
func (p *Port) callerFlow(s *sharedSocket, c *hostsock.Caller) (f *flow, free flowKey) {
	key := p.forwardKey(s, c.Peer)
	for i := range byte(callerPorts) {
		if i > 0 {
			key.remotePort = p.otherPort(c, &key, i)
		}
		f = p.flows.lookup(&key)
		switch {
		case f == nil && s.via == viaMapping:
			return nil, key
		case f == nil && free == flowKey{}:
			free = key
		case f != nil && p.isOf(f, s, c):
			return f, flowKey{}
		case s.via == viaMapping:
			return nil, flowKey{} // a peer that the guest has sent to has no other port
		}
	}
	return nil, free
}

// isOf tells whether f is the flow of a caller.
func (p *Port) isOf(f *flow, s *sharedSocket, c *hostsock.Caller) bool {
	if f.udp.via != s.via || f.udp.peer != c.Peer {
		return false
	}
	if f.udp.way == 0 && !s.asksWays && c.Scope == 0 {
		return true
	}
	w := p.pairs.ways.at(f.udp.way)
	return w.Same(&c.Way)
}

// otherPort returns a port that stands for that of a caller, always the same one for each i.
func (p *Port) otherPort(c *hostsock.Caller, key *flowKey, i byte) uint16 {
	var b [3*16 + 4 + 4 + 1]byte
	copy(b[0:], key.guest[:])
	copy(b[16:], c.Peer.Addr[:])
	copy(b[32:], c.Local[:])
	binary.NativeEndian.PutUint16(b[48:], key.guestPort)
	binary.NativeEndian.PutUint16(b[50:], c.Peer.Port)
	binary.NativeEndian.PutUint32(b[52:], c.Scope)
	b[56] = i
	return firstAnyPort + uint16(maphash.Bytes(p.flows.seed, b[:])%(65536-firstAnyPort))
}

// beginCaller makes a flow for the first datagram of a caller to a forward; nil if there is to be none.
func (p *Port) beginCaller(s *sharedSocket, c *hostsock.Caller, key *flowKey) *flow {
	if !p.admitPeer() {
		return nil
	}
	n, ok := p.pairs.ways.take(c.Way)
	if !ok {
		p.hit(limitPeers)
		return nil
	}
	udp := udpFlow{peer: c.Peer, via: s.via, way: n}
	f, _ := p.createWith(key, int(s.fd), stateUDP, inbound|shared, crowdPeers, udp)
	if f == nil {
		p.pairs.ways.give(n)
		return nil
	}
	p.counters.UDPFlows++
	p.chooseLink(f)
	return f
}

// chooseLink finds out whether answers to f's peer can leave by the interface that it is asked by. Without a route there, the
// kernel would take the peer for a neighbour.
func (p *Port) chooseLink(f *flow) {
	f.news = p.pairs.changes.Number()
	w := p.pairs.ways.at(f.udp.way)
	f.udp.byLink = w.Link != 0 && p.policy.routes.Reaches(&f.udp.peer.Addr, w.Link)
}

// wayBack returns how f's datagrams are to leave by a shared socket.
func (p *Port) wayBack(f *flow) hostsock.Way {
	if f.udp.way == 0 {
		return hostsock.Way{}
	}
	if f.news != p.pairs.changes.Number() {
		p.chooseLink(f)
	}
	w := p.pairs.ways.at(f.udp.way)
	if !f.udp.byLink {
		w.Link = 0
	}
	return w
}

// isWayClosed reports whether a datagram could not be sent by a way because of the way: the address is not the host's any more, or
// the interface is gone. Without it, the kernel chooses.
func isWayClosed(w *hostsock.Way, errno unix.Errno) bool { return w.IsChosen() && isAboutSource(errno) }
