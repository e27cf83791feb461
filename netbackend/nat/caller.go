package nat

import (
	"encoding/binary"
	"hash/maphash"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// callerPorts is how many ports a peer of a forward may have in the eyes of the guest: its own, and others where that is taken,
// by the same peer at another address of the host, or by a flow of the guest's own.
const callerPorts = 4

// askWays has the kernel tell how datagrams for a socket come that is bound to all addresses, and tells whether it does.
func askWays(a *ipaddr.Addr, fd int) bool {
	if a.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1) == nil
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) == nil
}

// callerOf returns who has sent message i of the batch.
func (p *Port) callerOf(s *sharedSocket, i int) (c caller) {
	c.peer = p.batch.peer(i)
	if s.asksWays {
		c.local, c.link = p.batch.asked(i)
	}
	if c.peer.Addr.IsLinkLocal() {
		c.scope = p.batch.scope(i)
	}
	return c
}

// callerFlow finds the flow of a caller. If there is none, free is a key for it, which is the zero key if it cannot have one.
func (p *Port) callerFlow(s *sharedSocket, c *caller) (f *flow, free flowKey) {
	key := p.forwardKey(s, c.peer)
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
func (p *Port) isOf(f *flow, s *sharedSocket, c *caller) bool {
	if f.udp.via != s.via || f.udp.peer != c.peer {
		return false
	}
	if f.udp.way == 0 && !s.asksWays && c.scope == 0 {
		return true
	}
	w := p.pairs.ways.at(f.udp.way)
	return w.same(&c.way)
}

// otherPort returns a port that stands for that of a caller, always the same one for each i.
func (p *Port) otherPort(c *caller, key *flowKey, i byte) uint16 {
	var b [3*16 + 4 + 4 + 1]byte
	copy(b[0:], key.guest[:])
	copy(b[16:], c.peer.Addr[:])
	copy(b[32:], c.local[:])
	binary.NativeEndian.PutUint16(b[48:], key.guestPort)
	binary.NativeEndian.PutUint16(b[50:], c.peer.Port)
	binary.NativeEndian.PutUint32(b[52:], c.scope)
	b[56] = i
	return firstAnyPort + uint16(maphash.Bytes(p.flows.seed, b[:])%(65536-firstAnyPort))
}

// beginCaller makes a flow for the first datagram of a caller to a forward; nil if there is to be none.
func (p *Port) beginCaller(s *sharedSocket, c *caller, key *flowKey) *flow {
	if !p.admitPeer() {
		return nil
	}
	n, ok := p.pairs.ways.take(c.way)
	if !ok {
		p.hit(limitPeers)
		return nil
	}
	udp := udpFlow{peer: c.peer, via: s.via, way: n}
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
	f.udp.byLink = w.link != 0 && p.policy.routes.Reaches(&f.udp.peer.Addr, w.link)
}

// wayBack returns how f's datagrams are to leave by a shared socket.
func (p *Port) wayBack(f *flow) way {
	if f.udp.way == 0 {
		return way{}
	}
	if f.news != p.pairs.changes.Number() {
		p.chooseLink(f)
	}
	w := p.pairs.ways.at(f.udp.way)
	if !f.udp.byLink {
		w.link = 0
	}
	return w
}

// isClosed tells whether a datagram could not be sent by a way because of the way: the address is not the host's any more, or
// the interface is gone. Without it, the kernel chooses.
func (w *way) isClosed(errno unix.Errno) bool {
	return (w.local != ipaddr.Addr{} || w.link != 0) && isAboutSource(errno)
}

// forget makes w a way that leaves the choice to the kernel, but for the link on which a peer is.
func (w *way) forget() { w.local, w.link = ipaddr.Addr{}, 0 }
