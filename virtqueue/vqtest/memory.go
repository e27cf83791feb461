package vqtest

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Backing is what guest memory is made of.
type Backing uint8

const (
	Heap  Backing = iota // Go memory
	Memfd                // a memfd, not sealed
)

func (b Backing) String() string {
	if b == Heap {
		return "heap"
	}
	return "memfd"
}

// Where guest memory begins. The two differ, so that a mix-up of address types shows.
const (
	BaseGPA guestmem.GPA = 0x4000_0000
	BaseUVA guestmem.UVA = 0x7f00_0000_0000
)

// Memory is the memory of a guest, and a bump allocator over it.
//
// It has one or more regions. They follow each other without a gap in guest-physical memory, but not in the front end's,
// nor in the host's.
type Memory struct {
	regions []region
	fd      int // of all regions, or -1
	next    guestmem.GPA
	table   *guestmem.Table
}

type region struct {
	guestmem.Region
	mem []byte // as the driver sees it
}

// NewMemory returns a guest's memory of one region of size bytes. For a memfd, size is a multiple of the page size.
func NewMemory(size int, backing Backing) *Memory { return NewSplitMemory(backing, size) }

// NewSplitMemory is NewMemory with a region of each size.
func NewSplitMemory(backing Backing, sizes ...int) *Memory {
	m := &Memory{fd: -1, next: BaseGPA}
	total := 0
	for _, size := range sizes {
		m.regions = append(m.regions, region{Region: guestmem.Region{
			GPA:    BaseGPA + guestmem.GPA(total),
			UVA:    BaseUVA + guestmem.UVA(len(m.regions))<<32 + guestmem.UVA(total),
			Size:   uint64(size),
			Offset: uint64(total),
			FD:     -1,
		}})
		total += size
	}
	if backing == Heap {
		m.allocate()
	} else {
		m.create(total)
	}
	m.table = m.NewTable(nil)
	return m
}

// NewFileMemory is NewMemory with a file of the caller's, which belongs to the memory from now on. Pages that nobody has
// touched are not asked for here either.
func NewFileMemory(fd, size int) *Memory {
	m := &Memory{fd: fd, next: BaseGPA, regions: []region{{Region: guestmem.Region{
		GPA: BaseGPA, UVA: BaseUVA, Size: uint64(size), FD: fd,
	}}}}
	m.mapRegions()
	m.table = m.NewTable(nil)
	return m
}

func (m *Memory) allocate() {
	for i := range m.regions {
		r := &m.regions[i]
		r.mem = alignedBytes(int(r.Size))
	}
}

func (m *Memory) create(total int) {
	fd, err := unix.MemfdCreate("vqtest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	must(err)
	must(unix.Ftruncate(fd, int64(total)))
	m.fd = fd
	m.mapRegions()
}

// mapRegions maps the regions from the file as the driver sees them.
func (m *Memory) mapRegions() {
	for i := range m.regions {
		r := &m.regions[i]
		r.FD = m.fd
		var err error
		r.mem, err = unix.Mmap(m.fd, int64(r.Offset), int(r.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(err)
	}
}

// alignedBytes returns n bytes of Go memory, aligned to 4096.
func alignedBytes(n int) []byte {
	const align = 4096
	b := make([]byte, n+align)
	skip := int(-address(b) & (align - 1))
	return b[skip : skip+n : skip+n]
}

// Table returns the device's table of the memory. It belongs to m.
func (m *Memory) Table() *guestmem.Table { return m.table }

// NewTable makes another table of the memory, which belongs to the caller. See guestmem.Map for prev.
func (m *Memory) NewTable(prev *guestmem.Table) *guestmem.Table {
	if m.fd >= 0 {
		t, err := guestmem.Map(m.Regions(), prev)
		must(err)
		return t
	}
	var heap []guestmem.HeapRegion
	for _, r := range m.regions {
		heap = append(heap, guestmem.HeapRegion{GPA: r.GPA, UVA: r.UVA, Mem: r.mem})
	}
	return guestmem.NewHeap(heap...)
}

// FD is the memfd of all regions, or -1. It belongs to m.
func (m *Memory) FD() int { return m.fd }

// Region is the first region, as a front end announces it.
func (m *Memory) Region() guestmem.Region { return m.regions[0].Region }

// Regions are all regions.
func (m *Memory) Regions() []guestmem.Region {
	var out []guestmem.Region
	for _, r := range m.regions {
		out = append(out, r.Region)
	}
	return out
}

// Truncate cuts the memfd to size bytes. What lies behind cannot be accessed any more, by the caller neither.
func (m *Memory) Truncate(size int64) { must(unix.Ftruncate(m.fd, size)) }

// Close releases the table, the mappings and the memfd.
func (m *Memory) Close() {
	must(m.table.Release())
	if m.fd < 0 {
		return
	}
	for _, r := range m.regions {
		must(unix.Munmap(r.mem))
	}
	must(unix.Close(m.fd))
}

// Alloc returns n bytes of guest memory at a multiple of align, a power of two. They do not cross the end of a region,
// and are never freed.
func (m *Memory) Alloc(n, align int) guestmem.GPA {
	at := m.next
	for {
		at = (at + guestmem.GPA(align) - 1) &^ (guestmem.GPA(align) - 1)
		r := m.region(at)
		if r == nil {
			panic(fmt.Sprintf("vqtest: no room for %d bytes of guest memory", n))
		}
		if end := r.GPA + guestmem.GPA(r.Size); at+guestmem.GPA(n) > end {
			at = end
			continue
		}
		m.next = at + guestmem.GPA(n)
		return at
	}
}

// Room is how many bytes Alloc has left, in the last region.
func (m *Memory) Room() int {
	last := m.regions[len(m.regions)-1]
	return int(last.GPA + guestmem.GPA(last.Size) - max(m.next, last.GPA))
}

// Bytes is the guest's view of [addr, addr+n), which lies in one region.
func (m *Memory) Bytes(addr guestmem.GPA, n int) []byte {
	r := m.region(addr)
	if r == nil || uint64(addr-r.GPA)+uint64(n) > r.Size {
		panic(fmt.Sprintf("vqtest: [%#x, +%d) is not in one region", uint64(addr), n))
	}
	off := int(addr - r.GPA)
	return r.mem[off : off+n : off+n]
}

// Write copies b to guest memory at addr, across regions.
func (m *Memory) Write(addr guestmem.GPA, b []byte) {
	for i := range b {
		m.Bytes(addr+guestmem.GPA(i), 1)[0] = b[i]
	}
}

// UVA is the address of addr in the front end's memory.
func (m *Memory) UVA(addr guestmem.GPA) guestmem.UVA {
	r := m.region(addr)
	return r.UVA + guestmem.UVA(addr-r.GPA)
}

// Holds reports whether all of [addr, addr+n) is guest memory.
func (m *Memory) Holds(addr guestmem.GPA, n uint64) bool {
	last := m.regions[len(m.regions)-1]
	size := uint64(last.GPA-BaseGPA) + last.Size
	off := uint64(addr - BaseGPA)
	return off < size && n <= size-off
}

func (m *Memory) region(addr guestmem.GPA) *region {
	for i := range m.regions {
		if r := &m.regions[i]; uint64(addr-r.GPA) < r.Size {
			return r
		}
	}
	return nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
