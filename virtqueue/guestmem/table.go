package guestmem

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
)

// Table is the memory of a guest at one time. It does not change; see [Map].
type Table struct {
	epoch    uint64
	regions  []Region   // by GPA; the FD of each is -1
	maps     []*mapping // by GPA, as regions; empty for a table of Go memory
	heap     [][]byte   // keeps the memory of a table of Go memory alive
	gpa      []span
	uva      []span
	host     []span // gpa, by host address
	released atomic.Bool
}

// Epoch tells tables of one guest apart: a table made with prev has the epoch that follows prev's, the first one has 1.
func (t *Table) Epoch() uint64 { return t.epoch }

// Regions returns the regions of t in the order of their guest-physical addresses. Their FD is -1, which [Map] takes to
// mean "as it is mapped already".
func (t *Table) Regions() []Region { return slices.Clone(t.regions) }

// Shrinkable reports whether a file of t may be cut short by its owner, because it is not sealed against that
// (F_SEAL_SHRINK in fcntl(2)). Access beyond the new end is a fault then.
func (t *Table) Shrinkable() bool {
	return slices.ContainsFunc(t.maps, func(m *mapping) bool { return m.shrinkable })
}

// Release gives up t. A mapping goes away with the last table that holds it. Nobody may use t, or what was translated
// with it, from then on. It must be called once; a second call is an error and has no effect.
func (t *Table) Release() error {
	if t.released.Swap(true) {
		return errors.New("guestmem: table was released before")
	}
	var err error
	for _, m := range t.maps {
		err = errors.Join(err, m.release())
	}
	return err
}

// AppendGPA appends to dst the host memory of [addr, addr+n), in as few pieces as possible, and reports whether it
// could: if a byte is not mapped, the range wraps around, or the capacity of dst does not suffice, dst is returned as it
// was. It does not allocate. Nothing is appended for n == 0, whatever addr is.
func (t *Table) AppendGPA(dst []Iovec, addr GPA, n uint64) ([]Iovec, bool) {
	before := len(dst)
	at := uint64(addr)
	for n > 0 {
		s := find(t.gpa, at)
		if s == nil || len(dst) == cap(dst) {
			return dst[:before], false
		}
		off := at - s.start
		piece := min(n, s.size-off)
		dst = append(dst, Iovec{Base: s.host + uintptr(off), Len: piece})
		at += piece // does not wrap: a span ends at 2^64-1 at the latest
		n -= piece
	}
	return dst, true
}

// Translator translates guest-physical ranges of a Table for one thread. It remembers the region of its last hit, since
// nearly all buffers of a guest lie in the same one.
type Translator struct {
	table *Table
	last  span
}

// Translator returns a Translator of t.
func (t *Table) Translator() Translator { return Translator{table: t} }

// Hit returns the host address of [addr, addr+n) if it is in the remembered region. On a miss, use AppendGPA.
func (tr *Translator) Hit(addr GPA, n uint64) (base uintptr, ok bool) { return tr.last.hit(addr, n) }

// Remembered is a copy of what a Translator remembers, for loops that look at nothing else. It is valid as long as the
// Table.
type Remembered struct{ span }

// Region returns what tr remembers.
func (tr *Translator) Region() Remembered { return Remembered{tr.last} }

// Hit is [Translator.Hit].
func (r Remembered) Hit(addr GPA, n uint64) (base uintptr, ok bool) { return r.hit(addr, n) }

// AppendGPA is [Table.AppendGPA]; it also remembers the region that holds addr.
func (tr *Translator) AppendGPA(dst []Iovec, addr GPA, n uint64) ([]Iovec, bool) {
	if s := find(tr.table.gpa, uint64(addr)); s != nil {
		tr.last = *s
	}
	return tr.table.AppendGPA(dst, addr, n)
}

// Regions returns in how many pieces of host memory a range can lie at most.
func (tr *Translator) Regions() int { return len(tr.table.gpa) }

// index builds the two sorted lists of spans. With join, areas that are adjacent both in the guest and in the host
// become one span: mappings often happen to be, and a range across them is one piece then.
func (t *Table) index(host []uintptr, join bool) {
	for i, r := range t.regions {
		t.gpa = append(t.gpa, span{start: uint64(r.GPA), size: r.Size, host: host[i]})
		t.uva = append(t.uva, span{start: uint64(r.UVA), size: r.Size, host: host[i]})
	}
	t.gpa = sortSpans(t.gpa, join)
	t.uva = sortSpans(t.uva, join)
	t.host = slices.Clone(t.gpa)
	slices.SortFunc(t.host, func(a, b span) int { return cmp.Compare(a.host, b.host) })
}

func sortSpans(spans []span, join bool) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	if !join {
		return spans
	}
	out := spans[:1]
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		if last.start+last.size == s.start && last.host+uintptr(last.size) == s.host {
			last.size += s.size
			continue
		}
		out = append(out, s)
	}
	return out
}
