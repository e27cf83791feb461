package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
)

// A guest may route, to containers or into a VPN, over links that carry less than its own. Its kernel drops what does not
// fit there and says so by ICMP (file icmp_report.go). The engine is the remote end of the guest's conversations, so it
// obeys: TCP sends smaller segments, other packets of IPv4 may be cut on the way, and datagrams of IPv6 leave in fragments.

// pathMTU is the longest packet in bytes that reaches an address of the guest's, or behind the guest.
func (s *shard) pathMTU(to *ipaddr.Addr) int { return s.pairs.paths.MTU(to, s.mtu, s.lastTurn) }

// setMSS takes what the guest's MSS and MTU allow a segment to carry.
func (e *tcpEngine) setMSS(f conn, mss uint16) {
	f.tcp.mss, f.tcp.fullMSS = mss, mss
	e.fitPath(f)
}

// fitPath makes a connection's segments as long as the path allows, and tells whether they are shorter than before. A path of
// IPv4 that is narrower than any host's least is left to the routers; see permitFragments.
func (e *tcpEngine) fitPath(f conn) (shorter bool) {
	c := f.tcp
	before := c.mss
	room := max(e.shard.pathMTU(&f.key.Guest), netpkt.MinMTU4) - (f.headers() - netpkt.EtherLen)
	c.mss = uint16(min(int(f.tcp.fullMSS), room))
	return c.mss < before
}

// obeyPath is fitPath for who was told of the path.
func (e *tcpEngine) obeyPath(f *flow) (shorter bool) { return e.fitPath(e.conn(f)) }

// widen lets a connection try longer segments when what was told of its path is out of date.
func (e *tcpEngine) widen(t *turn, f conn) {
	if f.tcp.mss == f.tcp.fullMSS {
		return
	}
	e.fitPath(f)
	if f.tcp.mss < f.tcp.fullMSS {
		e.watches.start(true, t.now)
	}
}

// packetSize is how long the packets of a connection are at most that are not to be cut.
func (e *tcpEngine) packetSize(of *flow) int {
	f := e.conn(of)
	return f.headers() - netpkt.EtherLen + int(f.tcp.mss)
}

// permitFragments lets routers cut a packet to the guest, with a header as netpkt.PutIPv4 writes it and n bytes behind it, if it is too
// long for its path. TCP has been told to be shorter; it is cut only where the path is narrower than it can be.
func (s *shard) permitFragments(ip []byte, dst *ipaddr.Addr, proto uint8, n int) {
	mtu := s.pathMTU(dst)
	if netpkt.IPv4Len+n <= mtu || proto == netpkt.TCP && mtu >= netpkt.MinMTU4 {
		return
	}
	const leastCut = 512 // so many bytes are in each packet at least that the guest's kernel makes of a frame
	s.packetID += uint16(1 + n/leastCut)
	netpkt.PermitFragments(ip, s.packetID-uint16(n/leastCut))
}
