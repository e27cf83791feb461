package guestmem

import "unsafe"

// pointer turns an address that a Table gave out back into a pointer.
//
// The address is read as a pointer where it lies instead of being converted. The pointer rules of package unsafe hold
// all the same: mapped memory is none of the collector's business, and Go memory (see [NewHeap]) is kept alive and in
// place by the Table.
func pointer(addr *uintptr) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(addr))
}

// bytes is the memory of v. It is for copying only: what a guest can change must not be looked at twice.
func (v *Iovec) bytes() []byte {
	return unsafe.Slice((*byte)(pointer(&v.Base)), v.Len)
}

// PointerUVA returns the host address of the area [addr, addr+n), which must lie in one piece of host memory. It is
// valid until t is released; that the area can be touched without a fault is not promised (see [Guard]).
func (t *Table) PointerUVA(addr UVA, n uint64) (p unsafe.Pointer, ok bool) {
	host, ok := contiguous(t.uva, uint64(addr), n)
	if !ok {
		return nil, false
	}
	return pointer(&host), true
}

// PointerGPA is PointerUVA for a guest-physical address.
func (t *Table) PointerGPA(addr GPA, n uint64) (p unsafe.Pointer, ok bool) {
	host, ok := contiguous(t.gpa, uint64(addr), n)
	if !ok {
		return nil, false
	}
	return pointer(&host), true
}

// address is where b begins.
func address(b []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}
