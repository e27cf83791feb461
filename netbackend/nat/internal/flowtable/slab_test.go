package flowtable

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// filled returns the indices of n flows in a new table.
func filled(t *testing.T, n int) (*Table, []uint32) {
	table := New(n)
	list := make([]uint32, n)
	for j := range list {
		list[j], _ = table.Insert(&Key{GuestPort: uint16(j), RemotePort: uint16(j >> 16)}, 1, nothing)
		require.NotZero(t, list[j])
	}
	return table, list
}

func TestASlabHasMemoryOnlyWhereSomethingWasMade(t *testing.T) {
	table, list := filled(t, 4*chunkSize)
	slab := NewSlab[int](table)
	for _, i := range list[2*chunkSize : 2*chunkSize+10] {
		*slab.Make(i) = int(i)
	}
	for n := range slab.chunks {
		require.Equal(t, n == 2, slab.chunks[n].Load() != nil, n)
	}
	for _, i := range list[2*chunkSize : 2*chunkSize+10] {
		require.Equal(t, int(i), *slab.At(i))
	}
}

func TestEveryIndexHasAPlaceInASlab(t *testing.T) {
	table := New(1)
	slab := NewSlab[uint32](table)
	for range Spare + 1 {
		i, _ := table.Insert(&Key{}, 1, nothing)
		require.NotZero(t, i)
		*slab.Make(i) = i
		table.Unlink(i)
	}
	for i := uint32(1); i <= Spare+1; i++ {
		require.Equal(t, i, *slab.At(i))
	}
}

func TestAFlowFindsNothingOfTheOneBefore(t *testing.T) {
	table, list := filled(t, 1)
	slab := NewSlab[[2]int](table)
	*slab.Make(list[0]) = [2]int{1, 2}
	require.Equal(t, [2]int{}, *slab.Make(list[0]))
}

func TestACopyIsTheSameSlab(t *testing.T) {
	table, list := filled(t, 1)
	slab := NewSlab[int](table)
	other := slab
	*slab.Make(list[0]) = 7
	require.Equal(t, 7, *other.At(list[0]))
}

// Owners of neighbouring indices need the same new chunk at the same moment.
func TestOwnersMakeInOneChunkAtTheSameTime(t *testing.T) {
	const owners, rounds = 4, 2000
	table, list := filled(t, owners)
	for range rounds {
		slab := NewSlab[uint32](table)
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for _, i := range list {
			wg.Go(func() {
				<-begin
				*slab.Make(i) = i
			})
		}
		close(begin)
		wg.Wait()
		for _, i := range list {
			require.Equal(t, i, *slab.At(i))
		}
	}
}

// What a flow takes is what the garbage collector has nothing to look for in.
func TestASlabTakesNoPointers(t *testing.T) {
	table := New(1)
	require.NotPanics(t, func() { NewSlab[struct{ a [2]uint64 }](table) })
	require.Panics(t, func() { NewSlab[*int](table) })
	require.Panics(t, func() { NewSlab[struct{ a [2]struct{ b []byte } }](table) })
	require.Panics(t, func() { NewSlab[func()](table) })
}
