package guestmem_test

import (
	"math"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// What a guest names may be gone by the time that it is fetched. A hint must not fault, and change nothing.
func TestPrefetchFaultsNowhere(t *testing.T) {
	b := [64]byte{1, 2, 3}
	run := []guestmem.Iovec{
		{Base: 0, Len: 64}, {Base: 1, Len: 0}, {Base: math.MaxUint64, Len: 1}, {Base: 1 << 63, Len: 64},
		{Base: uintptr(unsafe.Pointer(&b)), Len: 64},
	}
	for n := range len(run) + 1 {
		guestmem.Prefetch(run[:n], 12)
		guestmem.PrefetchWrite(run[:n])
	}
	guestmem.Prefetch(nil, 0)
	guestmem.PrefetchWrite(nil)
	require.Equal(t, [64]byte{1, 2, 3}, b)
}

// The loops in assembly step by this.
func TestAnIovecIsTwoWordsWithTheAddressFirst(t *testing.T) {
	require.EqualValues(t, 16, unsafe.Sizeof(guestmem.Iovec{}))
	require.Zero(t, unsafe.Offsetof(guestmem.Iovec{}.Base))
}
