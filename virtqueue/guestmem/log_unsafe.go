package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// set sets the bits of mask in a word of l, which has it. The front end clears bits at the same time, so it is one atomic
// access; byte page/8 has bit page%8, which on a little-endian machine is the same in a word.
func (l *Log) set(word uint64, mask uint32) {
	p := (*uint32)(unsafe.Add(pointer(&l.words), 4*word))
	if atomic.LoadUint32(p)&mask != mask {
		atomic.OrUint32(p, mask)
	}
}

// Marked reports whether the bit of a page is set: the front end's side, for tests.
func (l *Log) Marked(page uint64) bool {
	return page < l.pages && atomic.LoadUint32((*uint32)(unsafe.Add(pointer(&l.words), 4*(page/32))))>>(page%32)&1 != 0
}

// addressOfWords is where w begins.
func addressOfWords(w []uint32) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(w))) }
