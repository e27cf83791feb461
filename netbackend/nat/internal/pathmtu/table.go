package pathmtu

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

const (
	// lifetime is after how long longer packets are tried again (RFC 1191 section 6.3, RFC 8201 section 4).
	lifetime = int64(600e9)
	// maxPaths is how many addresses may have an MTU of their own. Of more, those go that were told first.
	maxPaths = 256
	// Least is the least MTU that a link of IPv4 can have (RFC 791 section 3.1).
	Least = 68
)

// path is what a guest has told of the way to an address behind it.
type path struct {
	mtu   int   // in bytes
	until int64 // when that is forgotten
}

// Table holds the MTUs of paths that are narrower than the guest's own link. Any queue pair reads it, without a lock: a
// change, which is rare, makes a new map. Without such paths there is no map.
type Table struct {
	mu    sync.Mutex // held by who changes it
	known atomic.Pointer[map[ipaddr.Addr]path]
}

// Any reports whether there may be narrow paths.
func (t *Table) Any() bool { return t.known.Load() != nil }

// MTU returns what is known of the way to an address, at most link.
func (t *Table) MTU(to *ipaddr.Addr, link int, now int64) int {
	known := t.known.Load()
	if known == nil {
		return link
	}
	if w, ok := (*known)[*to]; ok && now < w.until {
		return min(w.mtu, link)
	}
	return link
}

// Narrow notes that the way to an address carries mtu bytes, and reports whether that is less than was known.
func (t *Table) Narrow(to *ipaddr.Addr, mtu int, now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.MTU(to, mtu+1, now) <= mtu {
		return false
	}
	known := t.alive(now)
	if _, ok := known[*to]; !ok && len(known) >= maxPaths {
		delete(known, oldest(known))
	}
	known[*to] = path{mtu: mtu, until: now + lifetime}
	t.known.Store(&known)
	return true
}

// Prune forgets what is out of date, and reports whether anything is left.
func (t *Table) Prune(now int64) bool {
	if !t.Any() {
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
func (t *Table) alive(now int64) map[ipaddr.Addr]path {
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
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, Least}

// Plateau returns the largest of them that is less than size.
func Plateau(size int) int {
	for _, n := range plateaus {
		if n < size {
			return n
		}
	}
	return Least
}
