package guestmem

import (
	"errors"
	"fmt"
)

// PageShift is log2 of the size of the pages that a [Log] has a bit for, whatever the size of the machine's pages is
// (vhost-user specification, "Migration").
const PageShift = 12

// Log is a dirty log: one bit for each page of a guest's physical memory, which is set when the page was written. The front end
// shares it, and clears the bits that it has read (VHOST_USER_SET_LOG_BASE).
//
// A Log may be marked by any number of threads. The file behind it can be cut short as that of guest memory can, so it is
// marked inside [Guard].
type Log struct {
	m     *mapping
	heap  []uint32
	words uintptr // address of the first word
	pages uint64  // that have a bit
}

// MapLog maps the log of size bytes that begins offset bytes into fd. The file is borrowed, and must be one that could hold
// guest memory: see [Map]. What is mapped counts in b, which may be nil. The owner calls Release when nobody marks any more.
func (b *Budget) MapLog(fd int, size, offset uint64) (*Log, error) {
	r := Region{Size: size, Offset: offset, FD: fd}
	fail := func(err error) (*Log, error) {
		return nil, fmt.Errorf("guestmem: dirty log of %#x bytes at offset %#x: %w", size, offset, err)
	}
	if fd < 0 {
		return fail(errors.New("has no file"))
	}
	if err := r.check(); err != nil {
		return fail(err)
	}
	f, err := fileOf(r, nil)
	if err != nil {
		return fail(err)
	}
	m, err := newMapping(r, f, b)
	if err != nil {
		return fail(err)
	}
	m.refs.Add(1)
	return &Log{m: m, words: m.address(), pages: size * 8}, nil
}

// NewHeapLog makes a log of Go memory with a bit for so many pages, for tests: the race detector sees it. Release has
// nothing to unmap.
func NewHeapLog(pages uint64) *Log {
	l := &Log{heap: make([]uint32, (pages+31)/32), pages: pages}
	l.words = addressOfWords(l.heap)
	return l
}

// Covers reports whether l has a bit for each page of t. A nil Table has none.
func (l *Log) Covers(t *Table) bool {
	if t == nil || len(t.gpa) == 0 {
		return true
	}
	last := t.gpa[len(t.gpa)-1]
	return (last.start+last.size-1)>>PageShift < l.pages
}

// Release gives up l. Nobody may mark it from then on.
func (l *Log) Release() error {
	if l.m == nil {
		return nil
	}
	m := l.m
	l.m, l.pages = nil, 0
	return m.release()
}

// Mark sets the bits of the pages that hold [addr, addr+n), as far as the log has them. What was written there before is
// visible to who finds a bit set. A bit that is set already is left alone: most pages are written again and again between
// two looks of the front end, and a cache line that is not written stays with all processors.
func (l *Log) Mark(addr GPA, n uint64) {
	if n == 0 {
		return
	}
	first := uint64(addr) >> PageShift
	last := (uint64(addr) + n - 1) >> PageShift
	if last >= l.pages || last < first { // the rest lies outside, or wraps around
		if first >= l.pages {
			return
		}
		last = l.pages - 1
	}
	for page := first; page <= last; {
		word := page / 32
		end := min(last, word*32+31)
		l.set(word, uint32(uint64(1)<<(end-page+1)-1)<<(page%32))
		page = end + 1
	}
}

// Marker marks what was written to the memory of a Table, of which it is told by host addresses. It is for one thread. Its zero
// value marks nothing.
type Marker struct {
	log  *Log
	mem  *Table
	last span // the run of host memory that was found last
}

// NewMarker returns a Marker for memory of t. A nil Log marks nothing.
func NewMarker(l *Log, t *Table) Marker { return Marker{log: l, mem: t} }

// On reports whether there is a log.
func (m *Marker) On() bool { return m.log != nil }

// Wrote marks the first n bytes of iov, which came from the Marker's Table, or all of it if that has fewer.
func (m *Marker) Wrote(iov []Iovec, n uint64) {
	for i := 0; i < len(iov) && n > 0; i++ {
		piece := min(n, iov[i].Len)
		m.wrote(iov[i].Base, piece)
		n -= piece
	}
}

// wrote marks n bytes at host, which lie in one run of host memory.
func (m *Marker) wrote(host uintptr, n uint64) {
	if uint64(host-m.last.host) >= m.last.size {
		s := findHost(m.mem.host, host)
		if s == nil {
			return // not memory of the guest
		}
		m.last = *s
	}
	m.log.Mark(GPA(m.last.start+uint64(host-m.last.host)), n)
}

// findHost returns the span that holds the host address, or nil. The spans are sorted by their host addresses.
func findHost(spans []span, host uintptr) *span {
	lo, hi := 0, len(spans)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch s := &spans[mid]; {
		case host < s.host:
			hi = mid
		case uint64(host-s.host) >= s.size:
			lo = mid + 1
		default:
			return s
		}
	}
	return nil
}
