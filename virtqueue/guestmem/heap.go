package guestmem

import (
	"cmp"
	"slices"
)

// HeapRegion is guest memory that is Go memory.
type HeapRegion struct {
	GPA GPA
	UVA UVA
	Mem []byte
}

// NewHeap makes a table of Go memory, for tests and benchmarks: unlike mapped memory, it is seen by the race detector.
// Its epoch is 1, and Release has nothing to unmap. It panics if the regions are empty or overlap.
func NewHeap(regions ...HeapRegion) *Table {
	sorted := slices.Clone(regions)
	slices.SortFunc(sorted, func(a, b HeapRegion) int { return cmp.Compare(a.GPA, b.GPA) })

	t := &Table{epoch: 1}
	var host []uintptr
	for _, r := range sorted {
		t.regions = append(t.regions, Region{GPA: r.GPA, UVA: r.UVA, Size: uint64(len(r.Mem)), FD: -1})
		t.heap = append(t.heap, r.Mem)
		host = append(host, address(r.Mem))
	}
	for _, r := range t.regions {
		if err := r.check(); err != nil {
			panic("guestmem: " + r.String() + " " + err.Error())
		}
	}
	if err := checkOverlap(t.regions); err != nil {
		panic(err)
	}
	t.index(host, false) // separate objects stay separate, though they be neighbours
	return t
}
