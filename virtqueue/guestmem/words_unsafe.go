//go:build amd64 || arm64

package guestmem

import "unsafe"

// Word64 reads the 8 bytes that begin off bytes into v, least significant first, once. The caller made sure that v has
// them. Like all access to guest memory, it belongs inside [Guard].
func (v *Iovec) Word64(off uintptr) uint64 {
	return *(*uint64)(unsafe.Add(pointer(&v.Base), off))
}

// Word32 is Word64 for 4 bytes.
func (v *Iovec) Word32(off uintptr) uint32 {
	return *(*uint32)(unsafe.Add(pointer(&v.Base), off))
}

// PutWord64 writes the 8 bytes that begin off bytes into v, which has them.
func (v *Iovec) PutWord64(off uintptr, x uint64) {
	*(*uint64)(unsafe.Add(pointer(&v.Base), off)) = x
}

// PutWord32 is PutWord64 for 4 bytes.
func (v *Iovec) PutWord32(off uintptr, x uint32) {
	*(*uint32)(unsafe.Add(pointer(&v.Base), off)) = x
}
