package vqtest

import (
	"bytes"
	"slices"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// PageWatch finds the pages of a guest's memory that change, to compare them with a dirty log.
type PageWatch struct {
	m      *Memory
	before [][]byte
	exempt []pages
}

// pages are those from one number to another, which is not among them.
type pages struct{ from, to uint64 }

const pageSize = 1 << guestmem.PageShift

// WatchPages remembers what is in m. Nobody may write to it at that moment. Regions begin and end at pages.
func WatchPages(m *Memory) *PageWatch {
	w := &PageWatch{m: m}
	w.Forget()
	return w
}

// Exempt leaves the pages that hold [addr, addr+n) out: they are the driver's, which logs them itself.
func (w *PageWatch) Exempt(addr guestmem.GPA, n int) {
	w.exempt = append(w.exempt, pages{uint64(addr) / pageSize, (uint64(addr)+uint64(n)-1)/pageSize + 1})
}

// Forget remembers what is in the memory now.
func (w *PageWatch) Forget() {
	w.before = w.before[:0]
	for _, r := range w.m.regions {
		w.before = append(w.before, bytes.Clone(r.mem))
	}
}

// Changed returns the numbers of the pages that are not what they were.
func (w *PageWatch) Changed() (changed []uint64) {
	for i, r := range w.m.regions {
		for off := 0; off < len(r.mem); off += pageSize {
			page := uint64(r.GPA)/pageSize + uint64(off)/pageSize
			if !w.isExempt(page) && !bytes.Equal(r.mem[off:off+pageSize], w.before[i][off:off+pageSize]) {
				changed = append(changed, page)
			}
		}
	}
	return changed
}

func (w *PageWatch) isExempt(page uint64) bool {
	return slices.ContainsFunc(w.exempt, func(p pages) bool { return page >= p.from && page < p.to })
}

// Unmarked returns which of the pages that changed have no mark in log.
func (w *PageWatch) Unmarked(log *guestmem.Log) []uint64 {
	return slices.DeleteFunc(w.Changed(), log.Marked)
}

// GPA is the inverse of UVA.
func (m *Memory) GPA(addr guestmem.UVA) guestmem.GPA {
	for i := range m.regions {
		if r := &m.regions[i]; uint64(addr-r.UVA) < r.Size {
			return r.GPA + guestmem.GPA(addr-r.UVA)
		}
	}
	panic("vqtest: not an address of the memory")
}

// LogPages is how many pages a log must have for m.
func (m *Memory) LogPages() uint64 {
	last := m.regions[len(m.regions)-1]
	return (uint64(last.GPA) + last.Size + pageSize - 1) / pageSize
}
