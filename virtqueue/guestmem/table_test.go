package guestmem_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// threeRegions is memory of regions a and b, adjacent for the guest but not for the host, and c apart.
func threeRegions() (table *guestmem.Table, a, b, c []byte) {
	a, b, c = make([]byte, 0x1000), make([]byte, 0x1000), make([]byte, 0x1000)
	table = guestmem.NewHeap(
		guestmem.HeapRegion{GPA: 0x9000, UVA: 0x1000, Mem: c},
		guestmem.HeapRegion{GPA: 0x1000, UVA: 0x50000, Mem: a},
		guestmem.HeapRegion{GPA: 0x2000, UVA: 0x30000, Mem: b},
	)
	return table, a, b, c
}

func TestAppendGPA(t *testing.T) {
	table, _, _, _ := threeRegions()
	tests := []struct {
		name   string
		addr   guestmem.GPA
		n      uint64
		pieces []uint64 // lengths; nil: not mapped
	}{
		{"first byte", 0x1000, 1, []uint64{1}},
		{"whole region", 0x1000, 0x1000, []uint64{0x1000}},
		{"across adjacent regions", 0x1fff, 2, []uint64{1, 1}},
		{"two whole regions", 0x1000, 0x2000, []uint64{0x1000, 0x1000}},
		{"last byte", 0x9fff, 1, []uint64{1}},
		{"nothing, anywhere", 0, 0, []uint64{}},
		{"before", 0xfff, 1, nil},
		{"before and into", 0xfff, 2, nil},
		{"into a gap", 0x2fff, 2, nil},
		{"in a gap", 0x5000, 1, nil},
		{"across a gap", 0x2000, 0x8000, nil},
		{"behind", 0xa000, 1, nil},
		{"out at the end", 0x9000, 0x1001, nil},
		{"length wraps around", 0x1000, math.MaxUint64, nil},
		{"address wraps around", math.MaxUint64, 2, nil},
		{"ends at 2^64", 0x1000, math.MaxUint64 - 0xfff, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			translators := map[string]func([]guestmem.Iovec, guestmem.GPA, uint64) ([]guestmem.Iovec, bool){"table": table.AppendGPA}
			cold := table.Translator()
			translators["cold translator"] = cold.AppendGPA
			for name, appendGPA := range translators {
				have := make([]guestmem.Iovec, 1, 8)
				iov, ok := appendGPA(have, tt.addr, tt.n)
				require.Equal(t, tt.pieces != nil, ok, name)
				if !ok {
					require.Equal(t, have, iov, "what was there stays, alone")
					continue
				}
				got := []uint64{}
				for _, v := range iov[1:] {
					got = append(got, v.Len)
				}
				require.Equal(t, tt.pieces, got)
			}
		})
	}
}

func TestAppendGPANeverGrows(t *testing.T) {
	table, _, _, _ := threeRegions()
	dst := make([]guestmem.Iovec, 0, 1)
	iov, ok := table.AppendGPA(dst, 0x1fff, 2)
	require.False(t, ok)
	require.Empty(t, iov)
	iov, ok = table.AppendGPA(dst[:0:0], 0x1000, 1)
	require.False(t, ok)
	require.Empty(t, iov)
	require.Zero(t, testing.AllocsPerRun(10, func() { table.AppendGPA(dst, 0x1000, 16) }))
}

func TestTranslatorRemembersARegion(t *testing.T) {
	table, _, _, _ := threeRegions()
	tr := table.Translator()
	room := make([]guestmem.Iovec, 0, 4)
	_, ok := tr.Hit(0x1000, 1)
	require.False(t, ok, "nothing is remembered yet")
	iov, ok := tr.AppendGPA(room, 0x1010, 16)
	require.True(t, ok)
	base, ok := tr.Hit(0x1020, 0x1000-0x20)
	require.True(t, ok)
	require.Equal(t, iov[0].Base+0x10, base)
	for _, miss := range []struct {
		addr guestmem.GPA
		n    uint64
	}{{0x1020, 0x1000 - 0x1f}, {0xfff, 2}, {0x2000, 1}, {0x1000, math.MaxUint64}, {0x1020, math.MaxUint64}, {math.MaxUint64, 1}} {
		_, ok := tr.Hit(miss.addr, miss.n)
		require.False(t, ok, "%#x+%#x", uint64(miss.addr), miss.n)
	}
}

func TestPointers(t *testing.T) {
	table, a, b, c := threeRegions()
	a[0], b[0xfff], c[3] = 'a', 'b', 'c'
	tests := []struct {
		name string
		uva  guestmem.UVA
		gpa  guestmem.GPA
		n    uint64
		want byte // 0: refused
	}{
		{"first byte of a", 0x50000, 0x1000, 1, 'a'},
		{"all of a", 0x50000, 0x1000, 0x1000, 'a'},
		{"last byte of b", 0x30fff, 0x2fff, 1, 'b'},
		{"inside of c", 0x1003, 0x9003, 100, 'c'},
		{"across a's end", 0x50000, 0x1000, 0x1001, 0},
		{"nowhere", 0x20000, 0x4000, 1, 0},
		{"wraps around", math.MaxUint64, math.MaxUint64, 2, 0},
		{"length wraps around", 0x50001, 0x1001, math.MaxUint64, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := table.PointerUVA(tt.uva, tt.n)
			require.Equal(t, tt.want != 0, ok)
			q, ok := table.PointerGPA(tt.gpa, tt.n)
			require.Equal(t, tt.want != 0, ok)
			require.Equal(t, p, q, "both name the same byte")
			if ok {
				require.Equal(t, tt.want, *(*byte)(p))
			}
		})
	}
}

func TestCopyAcrossPieces(t *testing.T) {
	table, a, b, _ := threeRegions()
	copy(a[0xffd:], "abc")
	copy(b, "defg")
	iov, ok := table.AppendGPA(make([]guestmem.Iovec, 0, 4), 0x1ffd, 7)
	require.True(t, ok)
	iov = append(iov[:1:1], append([]guestmem.Iovec{{}}, iov[1:]...)...) // an empty piece does not matter
	for off := range 9 {
		for n := range 9 {
			dst := make([]byte, n)
			want := "abcdefg"[min(off, 7):min(off+n, 7)]
			require.Equal(t, len(want), guestmem.CopyFrom(dst, iov, off))
			require.Equal(t, want, string(dst[:len(want)]))
		}
	}
	require.Equal(t, 4, guestmem.CopyTo(iov, 1, []byte("BCDE")))
	require.Equal(t, "aBC", string(a[0xffd:]))
	require.Equal(t, "DEfg", string(b[:4]))
	require.Equal(t, 1, guestmem.CopyTo(iov, 6, []byte("GH")), "short at the end")
	require.Zero(t, guestmem.CopyTo(iov, 7, []byte("H")))
	require.Zero(t, b[4])
}

func TestNewHeapRefusesNonsense(t *testing.T) {
	mem := make([]byte, 4096)
	require.Panics(t, func() { guestmem.NewHeap(guestmem.HeapRegion{}) })
	require.Panics(t, func() {
		guestmem.NewHeap(guestmem.HeapRegion{GPA: 0, UVA: 0, Mem: mem}, guestmem.HeapRegion{GPA: 1, UVA: 0x10000, Mem: mem})
	})
}
