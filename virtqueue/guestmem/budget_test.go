package guestmem_test

import (
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

func region(fd int, at, pages uint64) guestmem.Region {
	return guestmem.Region{GPA: guestmem.GPA(at), UVA: guestmem.UVA(at), Size: pages * page, FD: fd}
}

func TestABudgetCountsOldAndNewTablesTogetherAndWhatTheyShareOnce(t *testing.T) {
	fd := memfd(t, 100)
	b := guestmem.NewBudget(guestmem.Limits{Bytes: 10 * page, Mappings: 3})
	a, err := b.Map([]guestmem.Region{region(fd, 0, 6)}, nil)
	require.NoError(t, err)
	_, err = b.Map([]guestmem.Region{region(fd, 1<<20, 5)}, a)
	require.ErrorContains(t, err, "more than 0xa000 bytes mapped")
	c, err := b.Map([]guestmem.Region{region(fd, 0, 6), region(fd, 1<<20, 4)}, a)
	require.NoError(t, err)
	release(t, a)
	_, err = b.Map([]guestmem.Region{region(fd, 0, 6), region(fd, 1<<20, 4), region(fd, 1<<21, 1)}, c)
	require.ErrorContains(t, err, "more than 0xa000 bytes mapped")
	release(t, c)
	d, err := b.Map([]guestmem.Region{region(fd, 1<<20, 10)}, nil)
	require.NoError(t, err, "all of it is free again")
	release(t, d)

	three := []guestmem.Region{region(fd, 0, 1), region(fd, 1<<20, 1), region(fd, 1<<21, 1)}
	e, err := b.Map(three, nil)
	require.NoError(t, err)
	_, err = b.Map(append(three, region(fd, 1<<22, 1)), e)
	require.ErrorContains(t, err, "more than 3 regions mapped")
	release(t, e)
	f, err := b.Map(three, nil)
	require.NoError(t, err)
	release(t, f)
}

func TestPagesCountWhole(t *testing.T) {
	r := region(memfd(t, 2), 0, 1)
	r.Size = page + 1
	_, err := guestmem.NewBudget(guestmem.Limits{Bytes: page + 1, Mappings: 1}).Map([]guestmem.Region{r}, nil)
	require.ErrorContains(t, err, "bytes mapped")
}

func TestWhatCannotBeMappedIsNotCounted(t *testing.T) {
	readOnly, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer readOnly.Close()
	b := guestmem.NewBudget(guestmem.Limits{Bytes: page, Mappings: 1})
	for range 3 {
		_, err = b.Map([]guestmem.Region{region(int(readOnly.Fd()), 0, 1)}, nil)
		require.Error(t, err)
	}
	table, err := b.Map([]guestmem.Region{region(memfd(t, 1), 0, 1)}, nil)
	require.NoError(t, err)
	release(t, table)
}

// All guests together leave the Go runtime half of the address space and a fourth of the mappings.
func TestGuestsShareWhatAProcessCanMap(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	require.NoError(t, err)
	mappings, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	one := guestmem.LimitsFor(1)
	require.LessOrEqual(t, one.Bytes, uint64(math.MaxInt64))
	for _, n := range []int{1, 2, 3, 64, 1000} {
		l := guestmem.LimitsFor(n)
		require.Equal(t, one.Bytes/uint64(n), l.Bytes)
		require.LessOrEqual(t, l.Mappings*n, mappings*3/4+1)
		require.Positive(t, l.Mappings)
	}
	require.Equal(t, one, guestmem.LimitsFor(0))
	require.Zero(t, one.Bytes&(one.Bytes-1), "half of a power of two, unless RLIMIT_AS is set")
	require.GreaterOrEqual(t, one.Bytes, uint64(1)<<38, "as much as any 64-bit kernel has")
}
