package guestmem

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/hashicorp/go-multierror"
)

// Region is a piece of guest memory as the front end announces it.
type Region struct {
	GPA    GPA
	Size   uint64 // bytes
	UVA    UVA
	Offset uint64 // of the region's first byte in the file
	// FD is the file, open for reading and writing. It is borrowed: Map neither keeps nor closes it. With -1 the region
	// must be in the previous table, and stays as it is mapped.
	FD int
}

func (r Region) String() string {
	return fmt.Sprintf("region gpa %#x size %#x uva %#x offset %#x", uint64(r.GPA), r.Size, uint64(r.UVA), r.Offset)
}

// check validates the numbers of r.
func (r Region) check() error {
	switch {
	case r.Size == 0:
		return errors.New("is empty")
	case r.Size > math.MaxInt64 || r.Offset > math.MaxInt64-r.Size:
		return errors.New("ends beyond what a file can hold")
	case uint64(r.GPA) > math.MaxUint64-r.Size:
		return errors.New("wraps around in guest-physical memory")
	case uint64(r.UVA) > math.MaxUint64-r.Size:
		return errors.New("wraps around in the front end's memory")
	}
	return nil
}

// checkOverlap finds regions that share addresses. Their numbers must have passed check.
func checkOverlap(regions []Region) error {
	return multierror.Append(nil,
		overlaps(regions, "guest-physical memory", func(r Region) uint64 { return uint64(r.GPA) }),
		overlaps(regions, "the front end's memory", func(r Region) uint64 { return uint64(r.UVA) }),
	).ErrorOrNil()
}

func overlaps(regions []Region, where string, start func(Region) uint64) error {
	sorted := slices.Clone(regions)
	slices.SortStableFunc(sorted, func(a, b Region) int { return cmp.Compare(start(a), start(b)) })
	var errs *multierror.Error
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if start(b)-start(a) < a.Size {
			errs = multierror.Append(errs, fmt.Errorf("%v and %v overlap in %s", a, b, where))
		}
	}
	return errs.ErrorOrNil()
}
