package nat

import (
	"encoding/binary"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// A guest may route, to containers or into a VPN, over links that carry less than its own. Its kernel drops what does not
// fit there and says so by ICMP (file icmp_report.go). The engine is the remote end of the guest's conversations, so it
// obeys: TCP sends smaller segments, other packets of IPv4 may be cut on the way, and datagrams of IPv6 leave in fragments.

const (
	// pathLifetime is after how long longer packets are tried again (RFC 1191 section 6.3, RFC 8201 section 4).
	pathLifetime = int64(600e9)
	// maxPaths is how many addresses may have an MTU of their own. Of more, those go that were told first.
	maxPaths = 256
	// leastPath is the least MTU that a link of IPv4 can have (RFC 791 section 3.1).
	leastPath = 68
)

// path is what a guest has told of the way to an address behind it.
type path struct {
	mtu   int   // in bytes
	until int64 // when that is forgotten
}

// pathTable holds the MTUs of paths that are narrower than the guest's own link. Any queue pair reads it, without a lock: a
// change, which is rare, makes a new map. Without such paths there is no map.
type pathTable struct {
	mu    sync.Mutex // held by who changes it
	known atomic.Pointer[map[ipaddr.Addr]path]
}

// any tells whether there may be narrow paths.
func (t *pathTable) any() bool { return t.known.Load() != nil }

// mtu returns what is known of the way to an address, at most link.
func (t *pathTable) mtu(to *ipaddr.Addr, link int, now int64) int {
	known := t.known.Load()
	if known == nil {
		return link
	}
	if w, ok := (*known)[*to]; ok && now < w.until {
		return min(w.mtu, link)
	}
	return link
}

// narrow notes that the way to an address carries mtu bytes, and tells whether less than was known.
func (t *pathTable) narrow(to *ipaddr.Addr, mtu int, now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mtu(to, mtu+1, now) <= mtu {
		return false
	}
	known := t.alive(now)
	if _, ok := known[*to]; !ok && len(known) >= maxPaths {
		delete(known, oldest(known))
	}
	known[*to] = path{mtu: mtu, until: now + pathLifetime}
	t.known.Store(&known)
	return true
}

// prune forgets what is out of date, and tells whether anything is left.
func (t *pathTable) prune(now int64) bool {
	if !t.any() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.alive(now)
	if len(known) == 0 {
		t.known.Store(nil)
		return false
	}
	t.known.Store(&known)
	return true
}

// alive returns a copy of what is known, without what is out of date.
func (t *pathTable) alive(now int64) map[ipaddr.Addr]path {
	known := map[ipaddr.Addr]path{}
	if before := t.known.Load(); before != nil {
		maps.Copy(known, *before)
	}
	maps.DeleteFunc(known, func(_ ipaddr.Addr, w path) bool { return now >= w.until })
	return known
}

// oldest returns the address whose path was told first.
func oldest(known map[ipaddr.Addr]path) (first ipaddr.Addr) {
	until := int64(0)
	for a, w := range known {
		if until == 0 || w.until < until {
			first, until = a, w.until
		}
	}
	return first
}

// plateaus are MTUs that links have (RFC 1191 section 7.1), for a router that says that a packet is too big, and not by how
// much.
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, leastPath}

// plateau returns the largest of them that is less than size.
func plateau(size int) int {
	for _, n := range plateaus {
		if n < size {
			return n
		}
	}
	return leastPath
}

// pathMTU is the longest packet in bytes that reaches an address of the guest's, or behind the guest.
func (p *Port) pathMTU(to *ipaddr.Addr) int { return p.pairs.paths.mtu(to, p.mtu, p.now) }

// setMSS takes what the guest's MSS and MTU allow a segment to carry.
func (p *Port) setMSS(f *flow, mss uint16) {
	f.tcp.mss, f.fullMSS = mss, mss
	p.fitPath(f)
}

// fitPath makes a connection's segments as long as the path allows, and tells whether they are shorter than before. A path of
// IPv4 that is narrower than any host's least is left to the routers; see permitFragments.
func (p *Port) fitPath(f *flow) (shorter bool) {
	t := &f.tcp
	before := t.mss
	room := max(p.pathMTU(&f.key.guest), minMTU) - (f.headers() - etherLen)
	t.mss = uint16(min(int(f.fullMSS), room))
	return t.mss < before
}

// widen lets a connection try longer segments when what was told of its path is out of date.
func (p *Port) widen(f *flow) {
	if f.tcp.mss == f.fullMSS {
		return
	}
	p.fitPath(f)
	if f.tcp.mss < f.fullMSS {
		p.watches.start(true, p.now)
	}
}

// permitFragments lets routers cut a packet to the guest, with a header as putIPv4 writes it and n bytes behind it, if it is too
// long for its path. TCP has been told to be shorter; it is cut only where the path is narrower than it can be.
func (p *Port) permitFragments(ip []byte, dst *ipaddr.Addr, proto uint8, n int) {
	mtu := p.pathMTU(dst)
	if ipv4Len+n <= mtu || proto == protoTCP && mtu >= minMTU {
		return
	}
	const leastCut = 512 // so many bytes are in each packet at least that the guest's kernel makes of a frame
	p.packetID += uint16(1 + n/leastCut)
	binary.BigEndian.PutUint16(ip[identification:], p.packetID-uint16(n/leastCut))
	ip[fragmentField] = 0
	sumIPv4(ip[:ipv4Len])
}
