package guestmem

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// markedPages returns the first marked pages of l.
func markedPages(l *Log) (pages []uint64) {
	for page := range l.pages {
		if l.Marked(page) {
			pages = append(pages, page)
		}
	}
	return pages
}

func TestMarkMarksThePagesThatWereWritten(t *testing.T) {
	pages := func(from, to uint64) (list []uint64) {
		for p := from; p <= to; p++ {
			list = append(list, p)
		}
		return list
	}
	tests := []struct {
		name string
		addr GPA
		n    uint64
		want []uint64
	}{
		{"nothing", 0, 0, nil},
		{"one byte", 0, 1, pages(0, 0)},
		{"the last byte of a page", 0xfff, 1, pages(0, 0)},
		{"two bytes of two pages", 0xfff, 2, pages(0, 1)},
		{"a page", 0x1f000, 0x1000, pages(31, 31)},
		{"two words", 0x1f000, 0x1001, pages(31, 32)},
		{"three words", 0x1f000, 0x22000, pages(31, 64)},
		{"a whole word", 0x20000, 0x20000, pages(32, 63)},
		{"all", 0, 100 << PageShift, pages(0, 99)},
		{"the last page and beyond", 99 << PageShift, 1 << 40, pages(99, 99)},
		{"beyond", 100 << PageShift, 1, nil},
		{"far beyond", math.MaxUint64, 1, nil},
		{"around the end of all addresses", math.MaxUint64 - 5, 10, nil},
		{"all that there can be", 0, math.MaxUint64, pages(0, 99)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := NewHeapLog(100)
			l.Mark(tt.addr, tt.n)
			require.Equal(t, tt.want, markedPages(l))
			l.Mark(tt.addr, tt.n)
			require.Equal(t, tt.want, markedPages(l), "again")
		})
	}
}

func TestALogIsABitInAByteForEachPage(t *testing.T) {
	fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 2*4096))
	l, err := (*Budget)(nil).MapLog(fd, 5, 4096)
	require.NoError(t, err)
	for _, page := range []GPA{0, 9, 39, 40} {
		l.Mark(page<<PageShift, 1)
	}
	b := make([]byte, 8)
	_, err = unix.Pread(fd, b, 4096)
	require.NoError(t, err)
	require.Equal(t, []byte{1, 2, 0, 0, 1 << 7, 0, 0, 0}, b, "page 40 has no bit")
	require.NoError(t, l.Release())
	require.NoError(t, l.Release(), "again")
}

func TestALogCoversWhatItHasBitsFor(t *testing.T) {
	mem := NewHeap(HeapRegion{GPA: 0x1000, UVA: 0x1000, Mem: make([]byte, 0x1000)}, HeapRegion{GPA: 0x20000, UVA: 0x20000, Mem: make([]byte, 0x1001)})
	require.True(t, NewHeapLog(0x22).Covers(mem))
	require.False(t, NewHeapLog(0x21).Covers(mem))
	require.True(t, NewHeapLog(0).Covers(nil))
}

func TestAMarkerFindsGuestMemoryByItsHostAddress(t *testing.T) {
	low, high := make([]byte, 0x2000), make([]byte, 0x2000)
	mem := NewHeap(HeapRegion{GPA: 0x8000, UVA: 0x8000, Mem: high}, HeapRegion{GPA: 0x1000, UVA: 0x1000, Mem: low})
	l := NewHeapLog(32)
	m := NewMarker(l, mem)
	require.True(t, m.On())
	iov, ok := mem.AppendGPA(make([]Iovec, 0, 4), 0x1800, 0x1000)
	require.True(t, ok)
	iov, ok = mem.AppendGPA(iov, 0x9ff0, 0x10)
	require.True(t, ok)
	m.Wrote(iov, 0x7ff)
	require.Equal(t, []uint64{1}, markedPages(l))
	m.Wrote(iov, 0x1000)
	require.Equal(t, []uint64{1, 2}, markedPages(l))
	m.Wrote(iov, 0x1001)
	require.Equal(t, []uint64{1, 2, 9}, markedPages(l))
	other := make([]byte, 16)
	m.Wrote([]Iovec{PieceOf(other)}, 16)
	require.Equal(t, []uint64{1, 2, 9}, markedPages(l), "memory of ours")
}

func TestALogThatIsCutShortIsAFault(t *testing.T) {
	fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 4096))
	l, err := (*Budget)(nil).MapLog(fd, 4096, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(fd, 0))
	var fault *FaultError
	require.ErrorAs(t, Guard(func() { l.Mark(0, 1) }), &fault)
	require.NoError(t, l.Release())
}

func TestALogCountsInTheBudget(t *testing.T) {
	fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 4096))
	b := NewBudget(Limits{Bytes: 4096, Mappings: 1})
	l, err := b.MapLog(fd, 8, 0)
	require.NoError(t, err)
	_, err = b.MapLog(fd, 8, 0)
	require.ErrorContains(t, err, "its share")
	require.NoError(t, l.Release())
	l, err = b.MapLog(fd, 8, 0)
	require.NoError(t, err)
	require.NoError(t, l.Release())
}
