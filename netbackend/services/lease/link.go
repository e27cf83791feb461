package lease

import (
	"net/netip"
	"slices"
	"sync"
)

// Link is what the Books of one link have together: no address is given by two of them. The zero value is one without Books. Any number of
// goroutines may use it.
type Link struct {
	mu    sync.Mutex // of all Books, too
	books []*Book
}

func (l *Link) add(b *Book) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books = append(l.books, b)
}

// Remove takes a Book from the link: its hosts are gone, and others may have their addresses.
func (l *Link) Remove(b *Book) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books = slices.DeleteFunc(l.books, func(other *Book) bool { return other == b })
}

// isElsewhere reports whether a host of another Book has an address, or is promised it. The caller has the lock.
func (l *Link) isElsewhere(now int64, b *Book, a netip.Addr) bool {
	for _, other := range l.books {
		if other == b {
			continue
		}
		if a == other.cfg.Primary || other.isFixed(a) {
			return true
		}
		if slices.ContainsFunc(other.entries, func(e entry) bool { return e.addr == a && e.until > now }) {
			return true
		}
	}
	return false
}

// hasRoomFor reports whether hosts of a Book may have another address of the pool: as many as are left to those of others. The caller has
// the lock.
func (l *Link) hasRoomFor(now int64, b *Book) bool {
	all := 0
	for _, other := range l.books {
		all += other.pooled(now)
	}
	return b.pooled(now) < b.cfg.Count-all
}

// pooled is how many addresses of the pool are given to hosts.
func (b *Book) pooled(now int64) (n int) {
	for i := range b.entries {
		if e := &b.entries[i]; e.until > now && b.inPool(e.addr) {
			n++
		}
	}
	return n
}
