package udp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/source"
)

// callerPorts is how many ports a peer of a forward may have in the eyes of the guest: its own, and others where that is taken,
// by the same peer at another address of the host, or by a flow of the guest's own.
const callerPorts = 4

// callerOf returns who has sent message i of the batch.
func (e *Engine) callerOf(s *listeners.SharedSocket, i int) (c hostsock.Caller) {
	c.Peer = e.batch.Peer(i)
	if s.AsksWays {
		c.Local, c.Link = e.batch.Asked(i)
	}
	if c.Peer.Addr.IsLinkLocal() {
		c.Scope = e.batch.Scope(i)
	}
	return c
}

// callerFlow finds the flow of a caller. If there is none, free is a key for it, which is the zero key if it cannot have one.
func (e *Engine) callerFlow(s *listeners.SharedSocket, c *hostsock.Caller) (f *shard.Flow, free flowtable.Key) {
	key := e.forwardKey(s, c.Peer)
	for i := range byte(callerPorts) {
		if i > 0 {
			key.RemotePort = e.otherPort(c, &key, i)
		}
		f = e.shard.Flows.Find(&key)
		switch {
		case f == nil && s.Via == viaMapping:
			return nil, key
		case f == nil && free == flowtable.Key{}:
			free = key
		case f != nil && e.isOf(f, s, c):
			return f, flowtable.Key{}
		case s.Via == viaMapping:
			return nil, flowtable.Key{} // a peer that the guest has sent to has no other port
		}
	}
	return nil, free
}

// isOf tells whether f is the flow of a caller.
func (e *Engine) isOf(f *shard.Flow, s *listeners.SharedSocket, c *hostsock.Caller) bool {
	udp := e.of(f)
	if udp.via != s.Via || udp.peer != c.Peer {
		return false
	}
	if udp.way == 0 && !s.AsksWays && c.Scope == 0 {
		return true
	}
	w := e.guest.ways.at(udp.way)
	return w.Same(&c.Way)
}

// otherPort returns a port that stands for that of a caller, always the same one for each i.
func (e *Engine) otherPort(c *hostsock.Caller, key *flowtable.Key, i byte) uint16 {
	var b [3*16 + 4 + 4 + 1]byte
	copy(b[0:], key.Guest[:])
	copy(b[16:], c.Peer.Addr[:])
	copy(b[32:], c.Local[:])
	binary.NativeEndian.PutUint16(b[48:], key.GuestPort)
	binary.NativeEndian.PutUint16(b[50:], c.Peer.Port)
	binary.NativeEndian.PutUint32(b[52:], c.Scope)
	b[56] = i
	return shard.FirstAnyPort + uint16(e.shard.Flows.Hash(b[:])%(65536-shard.FirstAnyPort))
}

// beginCaller makes a flow for the first datagram of a caller to a forward; nil if there is to be none.
func (e *Engine) beginCaller(t *shard.Turn, s *listeners.SharedSocket, c *hostsock.Caller, key *flowtable.Key) *shard.Flow {
	if !t.AdmitPeer() {
		return nil
	}
	n, ok := e.guest.ways.take(c.Way)
	if !ok {
		t.OverLimit(limits.Peers)
		return nil
	}
	udp := association{peer: c.Peer, via: s.Via, way: n}
	f, _ := t.CreateWith(key, int(s.FD), shard.StateActive, shard.Inbound|shard.SharedSocket, shard.ClassPeers, e.begin(udp))
	if f == nil {
		e.guest.ways.give(n)
		return nil
	}
	t.Counters.UDPFlows++
	e.chooseLink(f)
	return f
}

// chooseLink finds out whether answers to f's peer can leave by the interface that it is asked by. Without a route there, the
// kernel would take the peer for a neighbour.
func (e *Engine) chooseLink(f *shard.Flow) {
	f.RouteNews = e.sources.Changes()
	udp := e.of(f)
	w := e.guest.ways.at(udp.way)
	udp.traits &^= byLink
	if w.Link != 0 && e.routes.Reaches(&udp.peer.Addr, w.Link) {
		udp.traits |= byLink
	}
}

// wayBack returns how f's datagrams are to leave by a shared socket.
func (e *Engine) wayBack(f *shard.Flow) hostsock.Way {
	udp := e.of(f)
	if udp.way == 0 {
		return hostsock.Way{}
	}
	if f.RouteNews != e.sources.Changes() {
		e.chooseLink(f)
	}
	w := e.guest.ways.at(udp.way)
	if udp.traits&byLink == 0 {
		w.Link = 0
	}
	return w
}

// isWayClosed reports whether a datagram could not be sent by a way because of the way: the address is not the host's any more, or
// the interface is gone. Without it, the kernel chooses.
func isWayClosed(w *hostsock.Way, errno unix.Errno) bool {
	return w.IsChosen() && source.IsAboutSource(errno)
}
