package vqtest

import (
	"unsafe"

	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

// address is where b begins.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// pointer is the guest's view of n bytes at addr, which lie in one region.
func (m *Memory) pointer(addr guestmem.GPA, n uint64) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(m.Bytes(addr, int(n))))
}

// ringAt is the driver's view of a ring.
func (m *Memory) ringAt(size uint16, eventIdx bool, desc, avail, used guestmem.GPA) ring.Driver {
	d, ok := ring.NewDriver(size,
		m.pointer(desc, ring.DescLen(size)),
		m.pointer(avail, ring.AvailLen(size, eventIdx)),
		m.pointer(used, ring.UsedLen(size, eventIdx)))
	if !ok {
		panic("vqtest: ring is not aligned")
	}
	return d
}
