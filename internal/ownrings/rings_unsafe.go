package ownrings

import "unsafe"

// address is where b begins.
func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// aligned returns n bytes that begin at a multiple of align.
func aligned(n, align int) []byte {
	b := make([]byte, n+align)
	skip := -int(address(b)) & (align - 1)
	return b[skip : skip+n : skip+n]
}
