package virtqueue

import (
	"fmt"
	"unsafe"

	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

// device finds the parts of the ring in memory. Each must lie in one piece of host memory.
func (c *Config) device(mem *guestmem.Table) (ring.Device, error) {
	if mem == nil {
		return ring.Device{}, ErrUnmapped
	}
	var at [3]unsafe.Pointer
	for i, a := range c.areas() {
		p, ok := mem.PointerUVA(a.addr, a.len)
		if !ok {
			return ring.Device{}, fmt.Errorf("%w: %s at %#x, %d bytes", ErrUnmapped, a.name, uint64(a.addr), a.len)
		}
		at[i] = p
	}
	dev, ok := ring.NewDevice(c.Size, at[0], at[1], at[2])
	if !ok {
		return ring.Device{}, fmt.Errorf("%w: not aligned in the file of the region", ErrConfig)
	}
	return dev, nil
}

// indirectTable returns the indirect table of n bytes at addr, if it lies in one piece of host memory.
func indirectTable(mem *guestmem.Table, addr guestmem.GPA, n uint64) (ring.Table, bool) {
	p, ok := mem.PointerGPA(addr, n)
	return ring.NewTable(p), ok
}
