package guestmem

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is a mapped region. Tables share it.
type mapping struct {
	region Region // its FD is -1
	file
	base   unsafe.Pointer
	size   uintptr // as mapped: whole pages
	budget *Budget // that size is counted in
	refs   atomic.Int32
}

// newMapping maps r, and counts it in b. The result has no references yet.
func newMapping(r Region, f file, b *Budget) (*mapping, error) {
	size := uintptr(r.Size+f.page-1) &^ uintptr(f.page-1)
	if err := b.take(uint64(size)); err != nil {
		return nil, err
	}
	// MAP_NORESERVE: the memory is accounted to the front end already.
	base, err := unix.MmapPtr(r.FD, int64(r.Offset), nil, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		b.giveBack(uint64(size))
		return nil, fmt.Errorf("mmap: %w", err)
	}
	m := &mapping{region: r, file: f, base: base, size: size, budget: b}
	m.region.FD = -1
	// A guest's memory has no place in our core dump. Without the advice, nothing worse than a large dump happens.
	_ = unix.Madvise(unsafe.Slice((*byte)(base), size), unix.MADV_DONTDUMP)
	return m, nil
}

// address is where the region begins.
func (m *mapping) address() uintptr { return uintptr(m.base) }

// release drops one reference, and the mapping with the last one.
func (m *mapping) release() error {
	if m.refs.Add(-1) > 0 {
		return nil
	}
	if err := unix.MunmapPtr(m.base, m.size); err != nil {
		return fmt.Errorf("munmap %v: %w", m.region, err)
	}
	m.budget.giveBack(uint64(m.size))
	return nil
}
