//go:build amd64 || arm64

package ring

import (
	"sync/atomic"
	"unsafe"
)

// Driver is the driver's view of a queue. One goroutine uses it at a time.
type Driver struct {
	desc      unsafe.Pointer
	avail     unsafe.Pointer
	availWord *uint32
	idxShift  uint8
	used      unsafe.Pointer
	size      uintptr
	mask      uint16
	fence     uint32
}

// NewDriver returns the driver's view of a queue; see NewDevice.
func NewDriver(size uint16, desc, avail, used unsafe.Pointer) (Driver, bool) {
	if !aligned(desc, DescAlign) || !aligned(avail, AvailAlign) || !aligned(used, UsedAlign) {
		return Driver{}, false
	}
	d := Driver{desc: desc, avail: avail, used: used, size: uintptr(size), mask: size - 1}
	d.availWord, d.idxShift = availIdxWord(avail)
	return d, true
}

// SetDesc writes descriptor i of the queue's table.
func (d *Driver) SetDesc(i uint16, v Desc) { StoreDesc(unsafe.Add(d.desc, uintptr(i)*DescSize), v) }

// Desc reads descriptor i of the queue's table.
func (d *Driver) Desc(i uint16) Desc { return Table{d.desc}.Load(uint32(i)) }

// StoreDesc writes a descriptor at p, which may have any alignment.
func StoreDesc(p unsafe.Pointer, v Desc) {
	*(*uint64)(p) = v.Addr
	*(*uint64)(unsafe.Add(p, 8)) = uint64(v.Len) | uint64(v.Flags)<<32 | uint64(v.Next)<<48
}

// SetAvail writes the entry of the available ring for index i.
func (d *Driver) SetAvail(i, head uint16) {
	if d.idxShift == 0 && i&d.mask == 0 { // it shares the word of idx
		idx := uint16(atomic.LoadUint32(d.availWord))
		atomic.StoreUint32(d.availWord, uint32(idx)|uint32(head)<<16)
		return
	}
	*(*uint16)(unsafe.Add(d.avail, 4+2*uintptr(i&d.mask))) = head
}

// Entry reads the entry of the available ring for index i.
func (d *Driver) Entry(i uint16) uint16 {
	return *(*uint16)(unsafe.Add(d.avail, 4+2*uintptr(i&d.mask)))
}

// PublishAvail stores flags and index of the available ring. Followed by an atomic load it is a full barrier.
func (d *Driver) PublishAvail(flags, idx uint16) {
	if d.idxShift == 16 {
		atomic.StoreUint32(d.availWord, uint32(flags)|uint32(idx)<<16)
		return
	}
	store16(d.avail, flags)
	first := atomic.LoadUint32(d.availWord) >> 16
	atomic.StoreUint32(d.availWord, uint32(idx)|first<<16)
}

// AvailIdx loads the index of the available ring, which is the driver's own.
func (d *Driver) AvailIdx() uint16 { return uint16(atomic.LoadUint32(d.availWord) >> d.idxShift) }

// UsedIdx loads the index of the used ring.
func (d *Driver) UsedIdx() uint16 { return uint16(atomic.LoadUint32((*uint32)(d.used)) >> 16) }

// UsedFlags loads the flags of the used ring.
func (d *Driver) UsedFlags() uint16 { return uint16(atomic.LoadUint32((*uint32)(d.used))) }

// PublishUsed stores what is the device's to store, for tests of a device that finds a ring in use.
func (d *Driver) PublishUsed(flags, idx uint16) {
	atomic.StoreUint32((*uint32)(d.used), uint32(flags)|uint32(idx)<<16)
}

// Used reads the entry of the used ring for index i.
func (d *Driver) Used(i uint16) (id, written uint32) {
	v := *(*uint64)(unsafe.Add(d.used, 4+8*uintptr(i&d.mask)))
	return uint32(v), uint32(v >> 32)
}

// AvailEvent loads the index at which the device wants a kick, after a full barrier against the preceding PublishAvail.
func (d *Driver) AvailEvent() uint16 {
	atomic.LoadUint32((*uint32)(d.used))
	return load16(unsafe.Add(d.used, 4+8*d.size))
}

// SetUsedEvent stores the index at which the driver wants an interrupt. It is a full barrier before the next UsedIdx.
func (d *Driver) SetUsedEvent(idx uint16) {
	store16(unsafe.Add(d.avail, 4+2*d.size), idx)
	atomic.StoreUint32(&d.fence, uint32(idx))
}

// SetAvailEvent stores what is the device's to store, for tests of a device that finds a ring in use.
func (d *Driver) SetAvailEvent(idx uint16) { store16(unsafe.Add(d.used, 4+8*d.size), idx) }
