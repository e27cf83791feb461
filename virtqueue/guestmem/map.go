package guestmem

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"
)

// Map makes a table of regions. It checks all of them, and the error lists all faults found. Nothing is mapped then,
// and prev is as usable as before.
//
// A region that prev has too (same file, offset, size and addresses) shares prev's mapping. prev may be nil; it stays
// the caller's, who releases it when nobody uses it any more.
//
// The files must be regular ones, memfds included, on a file system that does not depend on another process or machine
// for its pages: a page fault cannot be interrupted, so such memory could hold up a worker for good.
//
// Map may ask the file system of a file about it, so it can block; only the control plane calls it.
func Map(regions []Region, prev *Table) (*Table, error) { return (*Budget)(nil).Map(regions, prev) }

// Map is the function Map for a guest whose tables are bounded: what would be more than b allows is an error, which names
// the limit.
func (b *Budget) Map(regions []Region, prev *Table) (*Table, error) {
	if len(regions) == 0 {
		return nil, errors.New("guestmem: no regions")
	}
	sorted := slices.Clone(regions)
	slices.SortStableFunc(sorted, func(a, b Region) int { return cmp.Compare(a.GPA, b.GPA) })

	files, err := check(sorted, prev)
	if err != nil {
		return nil, fmt.Errorf("guestmem: %w", err)
	}
	t := &Table{epoch: 1}
	if prev != nil {
		t.epoch = prev.epoch + 1
	}
	if err := t.mapAll(sorted, files, prev, b); err != nil {
		return nil, fmt.Errorf("guestmem: %w", errors.Join(err, t.Release()))
	}
	return t, nil
}

// check validates the regions and looks at their files.
func check(regions []Region, prev *Table) ([]file, error) {
	var errs *multierror.Error
	files := make([]file, len(regions))
	for i, r := range regions {
		err := r.check()
		if err == nil {
			files[i], err = fileOf(r, prev)
		}
		if err != nil {
			errs = multierror.Append(errs, fmt.Errorf("%v: %w", r, err))
		}
	}
	if errs == nil { // overlap of nonsense is noise
		errs = multierror.Append(errs, checkOverlap(regions))
	}
	errs.ErrorFormat = inOneLine
	return files, errs.ErrorOrNil()
}

// inOneLine is the text of several errors, for a log.
func inOneLine(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// mapAll maps the regions, or shares the mappings of prev. After an error, t holds what it got so far.
func (t *Table) mapAll(regions []Region, files []file, prev *Table, b *Budget) error {
	var host []uintptr
	for i, r := range regions {
		m := prev.shared(r, files[i])
		if m == nil {
			var err error
			if m, err = newMapping(r, files[i], b); err != nil {
				return fmt.Errorf("%v: %w", r, err)
			}
		}
		m.refs.Add(1)
		t.maps = append(t.maps, m)
		t.regions = append(t.regions, m.region)
		host = append(host, m.address())
	}
	t.index(host, true)
	return nil
}

// shared returns t's mapping of region r of file f, or nil.
func (t *Table) shared(r Region, f file) *mapping {
	if t == nil {
		return nil
	}
	// A mapping pins its file, so the inode number cannot have gone to another file.
	if m := t.mapped(r); m != nil && m.file.dev == f.dev && m.file.ino == f.ino {
		return m
	}
	return nil
}

// Has reports whether t maps region r from the same file. A nil Table has none.
func (t *Table) Has(r Region) bool {
	if r.FD < 0 || r.check() != nil {
		return false
	}
	f, err := fileOf(r, nil)
	return err == nil && t.shared(r, f) != nil
}

// mapped returns t's mapping of region r, whatever file it has, or nil.
func (t *Table) mapped(r Region) *mapping {
	i, found := slices.BinarySearchFunc(t.maps, r.GPA, func(m *mapping, at GPA) int { return cmp.Compare(m.region.GPA, at) })
	if r.FD = -1; !found || t.maps[i].region != r {
		return nil
	}
	return t.maps[i]
}

// file is what is known about the file of a region.
type file struct {
	dev, ino   uint64
	page       uint64 // page size of its mappings, in bytes
	shrinkable bool   // not sealed against being cut short
}

// fileOf looks at the file of r and checks that r can be mapped from it.
func fileOf(r Region, prev *Table) (file, error) {
	if r.FD < 0 {
		return keptFile(r, prev)
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.FD, &st); err != nil {
		return file{}, fmt.Errorf("fstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return file{}, errors.New("is not a regular file")
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(r.FD, &fs); err != nil {
		return file{}, fmt.Errorf("fstatfs: %w", err)
	}
	if !localFilesystem(int64(fs.Type)) {
		return file{}, fmt.Errorf("is on a file system (type %#x) that may stall us; use a memfd or tmpfs", uint32(fs.Type))
	}
	f := file{dev: st.Dev, ino: st.Ino, page: uint64(os.Getpagesize())}
	if fs.Type == unix.HUGETLBFS_MAGIC {
		f.page = uint64(fs.Bsize)
	}
	seals, err := unix.FcntlInt(uintptr(r.FD), unix.F_GET_SEALS, 0)
	f.shrinkable = err != nil || seals&unix.F_SEAL_SHRINK == 0
	return f, f.holds(r, uint64(st.Size))
}

// keptFile is the file of a region that comes without one: prev must have the region.
func keptFile(r Region, prev *Table) (file, error) {
	if prev != nil {
		if m := prev.mapped(r); m != nil {
			return m.file, nil
		}
	}
	return file{}, errors.New("has no file, and was not mapped before")
}

// holds checks that region r can be mapped from f, which is size bytes long.
func (f file) holds(r Region, size uint64) error {
	if r.Offset%f.page != 0 {
		return fmt.Errorf("offset is not a multiple of the page size %#x", f.page)
	}
	if f.page > uint64(os.Getpagesize()) && r.Size%f.page != 0 {
		return fmt.Errorf("size is not a multiple of the huge page size %#x", f.page)
	}
	if end := r.Offset + r.Size; end > size {
		return fmt.Errorf("ends %#x bytes beyond the end of the file", end-size)
	}
	return nil
}

// localFilesystem tells whether pages of a file system of this type (statfs(2)) come from this machine's kernel alone.
// What is not known is refused.
func localFilesystem(magic int64) bool {
	const (
		zfs      = 0x2fc12fc1
		bcachefs = 0xca451a4e
	)
	switch magic {
	case unix.TMPFS_MAGIC, unix.HUGETLBFS_MAGIC, unix.RAMFS_MAGIC:
		return true
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, zfs, bcachefs:
		return true
	case unix.OVERLAYFS_SUPER_MAGIC: // a file that is written lies in the upper layer, which cannot be remote
		return true
	}
	return false
}
