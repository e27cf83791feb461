//go:build amd64 || arm64

package ring

import (
	"sync/atomic"
	"unsafe"
)

// Table is a view of a descriptor table: that of a queue, or an indirect one.
type Table struct{ base unsafe.Pointer }

// NewTable returns the view of the table at base.
func NewTable(base unsafe.Pointer) Table { return Table{base} }

// Load copies descriptor i, by two 64-bit loads. The caller checked that the table is longer than i. A table of the
// guest may lie at any address: the loads are plain, and need no alignment on the machines that we build for.
func (t Table) Load(i uint32) Desc {
	p := unsafe.Add(t.base, uintptr(i)*DescSize)
	addr := *(*uint64)(p)
	rest := *(*uint64)(unsafe.Add(p, 8))
	return Desc{Addr: addr, Len: uint32(rest), Flags: uint16(rest >> 32), Next: uint16(rest >> 48)}
}

// Device is the device's view of a queue. One thread uses it at a time.
type Device struct {
	Desc Table

	avail     unsafe.Pointer
	availWord *uint32 // the aligned word of the available ring that holds idx
	idxShift  uint8   // where idx is in it
	used      unsafe.Pointer
	size      uintptr
	mask      uint16
	fence     uint32 // ours, written to order other accesses
}

// NewDevice returns the view of a queue of size descriptors, a power of two, with its parts at these addresses. It
// reports false if one of them is not aligned as the specification demands.
func NewDevice(size uint16, desc, avail, used unsafe.Pointer) (Device, bool) {
	if !aligned(desc, DescAlign) || !aligned(avail, AvailAlign) || !aligned(used, UsedAlign) {
		return Device{}, false
	}
	d := Device{Desc: Table{desc}, avail: avail, used: used, size: uintptr(size), mask: size - 1}
	d.availWord, d.idxShift = availIdxWord(avail)
	return d, true
}

func aligned(p unsafe.Pointer, to uintptr) bool { return uintptr(p)%to == 0 }

// availIdxWord finds the aligned 32-bit word that holds idx, at offset 2 of the available ring: the first one, with flags
// below it, or the one that begins with it, with ring[0] above it.
func availIdxWord(avail unsafe.Pointer) (word *uint32, shift uint8) {
	if aligned(avail, 4) {
		return (*uint32)(avail), 16
	}
	return (*uint32)(unsafe.Add(avail, 2)), 0
}

// AvailIdx loads the index of the available ring. What the driver wrote before it stored the index is visible then.
func (d *Device) AvailIdx() uint16 {
	return uint16(atomic.LoadUint32(d.availWord) >> d.idxShift)
}

// AvailFlags loads the flags of the available ring, after all earlier atomic accesses.
func (d *Device) AvailFlags() uint16 {
	word := atomic.LoadUint32(d.availWord)
	if d.idxShift == 16 {
		return uint16(word)
	}
	return load16(d.avail)
}

// Avail returns the entry of the available ring for index i: the head of a chain.
//
// The race detector does not see it, since entry 0 may share the word of idx, which our Driver can store only as a
// whole.
//
//go:norace
func (d *Device) Avail(i uint16) uint16 {
	return *(*uint16)(unsafe.Add(d.avail, 4+2*uintptr(i&d.mask)))
}

// LoadRun copies the entries of the available ring from index i on to heads, and the descriptors that they name to descs,
// which is as long. A head that is no descriptor's brings another descriptor with it: the caller compares it with the
// size of the queue before it looks at that.
//
// Nothing is decided here, so that a processor has the loads of many frames under way at a time.
//
//go:norace
func (d *Device) LoadRun(i uint16, heads []uint16, descs []Words) {
	descs = descs[:len(heads)]
	mask, avail, table := d.mask, unsafe.Add(d.avail, 4), d.Desc.base
	for k := range heads {
		head := *(*uint16)(unsafe.Add(avail, 2*uintptr(i&mask)))
		p := unsafe.Add(table, uintptr(head&mask)*DescSize)
		heads[k] = head
		descs[k] = Words{*(*uint64)(p), *(*uint64)(unsafe.Add(p, 8))}
		i++
	}
}

// SetUsedRun is SetUsed for a run of entries from index i on. written is as long as heads.
func (d *Device) SetUsedRun(i uint16, heads []uint16, written []uint32) {
	written = written[:len(heads)]
	mask, used := d.mask, unsafe.Add(d.used, 4)
	for k, head := range heads {
		*(*uint64)(unsafe.Add(used, 8*uintptr(i&mask))) = uint64(head) | uint64(written[k])<<32
		i++
	}
}

// SetUsedRunRead is SetUsedRun for chains that nothing was written to.
func (d *Device) SetUsedRunRead(i uint16, heads []uint16) {
	mask, used := d.mask, unsafe.Add(d.used, 4)
	for _, head := range heads {
		*(*uint64)(unsafe.Add(used, 8*uintptr(i&mask))) = uint64(head)
		i++
	}
}

// SetUsed writes the entry of the used ring for index i, by one 64-bit store.
func (d *Device) SetUsed(i, head uint16, written uint32) {
	*(*uint64)(unsafe.Add(d.used, 4+8*uintptr(i&d.mask))) = uint64(head) | uint64(written)<<32
}

// PublishUsed stores flags and index of the used ring at once. What was written before is visible to a driver that sees
// the index. Followed by an atomic load it is a full barrier.
func (d *Device) PublishUsed(flags, idx uint16) {
	atomic.StoreUint32((*uint32)(d.used), uint32(flags)|uint32(idx)<<16)
}

// UsedIdx loads the index of the used ring.
func (d *Device) UsedIdx() uint16 {
	return uint16(atomic.LoadUint32((*uint32)(d.used)) >> 16)
}

// UsedFlags loads the flags of the used ring.
func (d *Device) UsedFlags() uint16 {
	return uint16(atomic.LoadUint32((*uint32)(d.used)))
}

// UsedEvent loads the index at which the driver wants an interrupt. Only with EVENT_IDX.
//
// Call it after a PublishUsed: it gives the full barrier between the two that keeps the driver, which does the reverse,
// and us from missing each other.
func (d *Device) UsedEvent() uint16 {
	atomic.LoadUint32(d.availWord)
	return load16(unsafe.Add(d.avail, 4+2*d.size))
}

// SetAvailEvent stores the index at which the device wants a kick. Only with EVENT_IDX. It is a full barrier before the
// next AvailIdx.
func (d *Device) SetAvailEvent(idx uint16) {
	store16(unsafe.Add(d.used, 4+8*d.size), idx)
	atomic.StoreUint32(&d.fence, uint32(idx))
}

// load16 reads a field that the other side may be writing, outside the race detector's sight.
//
//go:norace
func load16(p unsafe.Pointer) uint16 { return *(*uint16)(p) }

// store16 writes a field that the other side may be reading, outside the race detector's sight.
//
//go:norace
func store16(p unsafe.Pointer, v uint16) { *(*uint16)(p) = v }
