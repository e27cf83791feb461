package guestmem_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

const page = 4096

// memfd makes a file of n pages, closed with the test.
func memfd(t *testing.T, pages int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Ftruncate(fd, pages*int64(os.Getpagesize())))
	return fd
}

// mappings counts the mappings of memfds in this process.
func mappings(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return bytes.Count(b, []byte("/memfd:test"))
}

func release(t *testing.T, tables ...*guestmem.Table) {
	t.Helper()
	for _, table := range tables {
		require.NoError(t, table.Release())
	}
}

func TestMapRefusesBadRegions(t *testing.T) {
	fd := memfd(t, 16)
	good := guestmem.Region{GPA: 0x10000, Size: 4 * page, UVA: 0x7f0000000000, FD: fd}
	tests := []struct {
		name string
		edit func(*guestmem.Region)
		want string
	}{
		{"size 0", func(r *guestmem.Region) { r.Size = 0 }, "is empty"},
		{"offset and size wrap", func(r *guestmem.Region) { r.Offset = math.MaxUint64 - page + 1 }, "beyond what a file can hold"},
		{"size beyond any file", func(r *guestmem.Region) { r.Size = 1 << 63 }, "beyond what a file can hold"},
		{"gpa and size wrap", func(r *guestmem.Region) { r.GPA = math.MaxUint64 - page + 1 }, "wraps around in guest-physical"},
		{"uva and size wrap", func(r *guestmem.Region) { r.UVA = math.MaxUint64 - page + 1 }, "wraps around in the front end"},
		{"offset not on a page", func(r *guestmem.Region) { r.Offset = 512 }, "not a multiple of the page size"},
		{"offset behind the file", func(r *guestmem.Region) { r.Offset = 16 * page }, "beyond the end of the file"},
		{"size behind the file", func(r *guestmem.Region) { r.Size = 16*page + 1 }, "ends 0x1 bytes beyond the end of the file"},
		{"fd is closed", func(r *guestmem.Region) { r.FD = 1 << 20 }, "bad file descriptor"},
		{"no fd", func(r *guestmem.Region) { r.FD = -1 }, "has no file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := good
			tt.edit(&bad)
			table, err := guestmem.Map([]guestmem.Region{bad}, nil)
			require.ErrorContains(t, err, tt.want)
			require.Nil(t, table)
		})
	}
	t.Run("no regions", func(t *testing.T) {
		_, err := guestmem.Map(nil, nil)
		require.Error(t, err)
	})
}

func TestMapRefusesFilesThatAreNotMemory(t *testing.T) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	dir, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	zero, err := unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	proc, err := unix.Open("/proc/self/comm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	for name, fd := range map[string]int{"eventfd": event, "socket": pair[0], "directory": dir, "device": zero, "proc": proc} {
		t.Run(name, func(t *testing.T) {
			_, err := guestmem.Map([]guestmem.Region{{Size: page, FD: fd}}, nil)
			require.Error(t, err)
			require.NoError(t, unix.Close(fd))
		})
	}
	_ = unix.Close(pair[1])
}

func TestMapRefusesFilesItMayNotWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	require.NoError(t, os.WriteFile(path, make([]byte, page), 0o600))
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	_, err = guestmem.Map([]guestmem.Region{{Size: page, FD: fd}}, nil)
	require.ErrorContains(t, err, "mmap")
}

func TestMapRefusesOverlap(t *testing.T) {
	fd := memfd(t, 16)
	first := guestmem.Region{GPA: 0x100000, Size: 4 * page, UVA: 0x900000, FD: fd}
	tests := []struct {
		name string
		gpa  guestmem.GPA
		uva  guestmem.UVA
		want string
	}{
		{"adjacent", 0x104000, 0x904000, ""},
		{"adjacent in front", 0x0fc000, 0x8fc000, ""},
		{"gpa", 0x103000, 0xa00000, "overlap in guest-physical memory"},
		{"gpa in front", 0x0ff000, 0xa00000, "overlap in guest-physical memory"},
		{"same gpa", 0x100000, 0xa00000, "overlap in guest-physical memory"},
		{"uva", 0x200000, 0x903fff, "overlap in the front end's memory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			second := guestmem.Region{GPA: tt.gpa, UVA: tt.uva, Size: 4 * page, Offset: 8 * page, FD: fd}
			table, err := guestmem.Map([]guestmem.Region{first, second}, nil)
			if tt.want == "" {
				require.NoError(t, err)
				release(t, table)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestMapReportsAllFaults(t *testing.T) {
	fd := memfd(t, 16)
	_, err := guestmem.Map([]guestmem.Region{
		{GPA: 0x1000, UVA: 0x1000, FD: fd},
		{GPA: 0x10000, UVA: 0x10000, Size: page, FD: fd},
		{GPA: 0x20000, UVA: 0x20000, Size: page, Offset: 1, FD: fd},
	}, nil)
	require.NotContains(t, err.Error(), "\n", "it is one line of a log")
	require.Equal(t, 1, strings.Count(err.Error(), "; "))
	require.ErrorContains(t, err, "gpa 0x1000 ")
	require.ErrorContains(t, err, "gpa 0x20000 ")
}

func TestFailedMapLeavesNothingBehind(t *testing.T) {
	fd := memfd(t, 16)
	readOnly, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(readOnly)
	before := mappings(t)
	prev, err := guestmem.Map([]guestmem.Region{{Size: page, UVA: 0x1000, FD: fd}}, nil)
	require.NoError(t, err)
	for range 3 {
		_, err := guestmem.Map([]guestmem.Region{
			{Size: page, UVA: 0x1000, FD: fd},
			{GPA: 0x10000, UVA: 0x10000, Size: page, Offset: 4 * page, FD: fd},
			{GPA: 0x20000, UVA: 0x20000, Size: page, FD: readOnly}, // passes all checks, and cannot be mapped
		}, prev)
		require.ErrorContains(t, err, "mmap")
		require.Equal(t, before+1, mappings(t))
	}
	_, ok := prev.AppendGPA(make([]guestmem.Iovec, 0, 1), 0, page)
	require.True(t, ok, "the previous table still works")
	release(t, prev)
	require.Equal(t, before, mappings(t))
}

func TestUnchangedRegionsKeepTheirMapping(t *testing.T) {
	fd := memfd(t, 16)
	other := memfd(t, 16)
	region := guestmem.Region{GPA: 0x10000, Size: 4 * page, UVA: 0x900000, FD: fd}
	first, err := guestmem.Map([]guestmem.Region{region}, nil)
	require.NoError(t, err)
	host := func(table *guestmem.Table) uintptr {
		iov, ok := table.AppendGPA(make([]guestmem.Iovec, 0, 1), 0x10000, 1)
		require.True(t, ok)
		return iov[0].Base
	}
	tests := []struct {
		name  string
		edit  func(*guestmem.Region)
		share bool
	}{
		{"same", func(*guestmem.Region) {}, true},
		{"same file, other descriptor", func(r *guestmem.Region) {
			fd, err := unix.Dup(fd)
			require.NoError(t, err)
			t.Cleanup(func() { _ = unix.Close(fd) })
			r.FD = fd
		}, true},
		{"as it is mapped", func(r *guestmem.Region) { r.FD = -1 }, true},
		{"other file", func(r *guestmem.Region) { r.FD = other }, false},
		{"other offset", func(r *guestmem.Region) { r.Offset = page }, false},
		{"other size", func(r *guestmem.Region) { r.Size = 5 * page }, false},
		{"other uva", func(r *guestmem.Region) { r.UVA += page }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := region
			tt.edit(&changed)
			hot := guestmem.Region{GPA: 0x100000, Size: page, UVA: 0x100000, Offset: 8 * page, FD: other}
			second, err := guestmem.Map([]guestmem.Region{hot, changed}, first)
			require.NoError(t, err)
			require.Equal(t, first.Epoch()+1, second.Epoch())
			require.Equal(t, tt.share, host(first) == host(second))
			release(t, second)
		})
	}
	release(t, first)
}

func TestRegionsCanBeAddedAndRemovedWithoutFiles(t *testing.T) {
	before := mappings(t)
	fd := memfd(t, 16)
	first, err := guestmem.Map([]guestmem.Region{{GPA: 0x10000, UVA: 0x10000, Size: page, FD: fd}}, nil)
	require.NoError(t, err)
	added := append(first.Regions(), guestmem.Region{GPA: 0x5000, UVA: 0x5000, Size: page, Offset: page, FD: fd})
	second, err := guestmem.Map(added, first)
	require.NoError(t, err)
	release(t, first)
	require.Len(t, second.Regions(), 2)
	require.EqualValues(t, 0x5000, second.Regions()[0].GPA, "in order of address")
	third, err := guestmem.Map(second.Regions()[:1], second)
	require.NoError(t, err)
	release(t, second)
	require.Equal(t, before+1, mappings(t))
	release(t, third)
	require.Equal(t, before, mappings(t))
	require.Error(t, third.Release(), "once")
}

func TestFloodOfTablesDoesNotGrow(t *testing.T) {
	fd := memfd(t, 16)
	before := mappings(t)
	var prev *guestmem.Table
	for i := range 100 {
		next, err := guestmem.Map([]guestmem.Region{
			{GPA: 0, UVA: 0, Size: page, FD: fd},
			{GPA: guestmem.GPA(0x10000 + i*page), UVA: 0x10000, Size: page, Offset: page, FD: fd},
		}, prev)
		require.NoError(t, err)
		if prev != nil {
			release(t, prev)
		}
		prev = next
		require.LessOrEqual(t, mappings(t), before+2)
	}
	release(t, prev)
	require.Equal(t, before, mappings(t))
}

func TestMapKeepsNoDescriptor(t *testing.T) {
	fd := memfd(t, 4)
	before, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	table, err := guestmem.Map([]guestmem.Region{{Size: page, FD: fd}}, nil)
	require.NoError(t, err)
	after, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	require.Len(t, after, len(before))
	require.Equal(t, -1, table.Regions()[0].FD)
	release(t, table)
}

func TestMappingIsSharedAndStaysOutOfDumps(t *testing.T) {
	fd := memfd(t, 4)
	table, err := guestmem.Map([]guestmem.Region{{Size: page, Offset: page, FD: fd}}, nil)
	require.NoError(t, err)
	defer release(t, table)
	iov, ok := table.AppendGPA(make([]guestmem.Iovec, 0, 1), 10, 5)
	require.True(t, ok)
	require.Equal(t, 5, guestmem.CopyTo(iov, 0, []byte("hello")))
	b := make([]byte, 5)
	_, err = unix.Pread(fd, b, page+10)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b))

	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	_, entry, ok := strings.Cut(string(smaps), "/memfd:test")
	require.True(t, ok)
	_, flags, ok := strings.Cut(entry, "VmFlags:")
	require.True(t, ok)
	flags, _, _ = strings.Cut(flags, "\n")
	require.Contains(t, flags, " sh", "shared")
	require.Contains(t, flags, " dd", "not dumped")
	require.Contains(t, flags, " nr", "not reserved")
}

func TestOrdinaryFileIsMemory(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "memory")
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(page))
	table, err := guestmem.Map([]guestmem.Region{{Size: page, FD: int(f.Fd())}}, nil)
	require.NoError(t, err)
	require.True(t, table.Shrinkable())
	release(t, table)
}

func TestShrinkableUnlessSealed(t *testing.T) {
	fd := memfd(t, 2)
	regions := []guestmem.Region{{Size: page, FD: fd}}
	open, err := guestmem.Map(regions, nil)
	require.NoError(t, err)
	require.True(t, open.Shrinkable())
	release(t, open)
	// As QEMU does.
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	require.NoError(t, err)
	sealed, err := guestmem.Map(regions, nil)
	require.NoError(t, err)
	require.False(t, sealed.Shrinkable())
	release(t, sealed)
}
