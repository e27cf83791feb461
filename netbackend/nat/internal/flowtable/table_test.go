package flowtable

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func nothing(uint32) {}

// A table behaves as a map would.
func TestAFlowTableAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(40) // so that there are chains
		model := map[Key]uint32{}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			key := Key{GuestPort: uint16(rapid.IntRange(1, 40).Draw(t, "port")), Proto: unix.IPPROTO_TCP}
			i := table.Lookup(&key)
			if index := model[key]; i != index {
				t.Fatalf("lookup of %v gave %v, want %v", key, i, index)
			}
			if i == None {
				model[key], _ = table.Insert(&key, 1, nothing)
				continue
			}
			table.Unlink(i)
			table.Release(i)
			delete(model, key)
		}
		if table.count != len(model) || table.Live() != len(model) {
			t.Fatalf("%d flows in %d records, want %d", table.Live(), table.count, len(model))
		}
	})
}

func TestTheTableGrowsAndFindsEveryFlow(t *testing.T) {
	const n = 20000
	table := New(n)
	key := Key{Proto: unix.IPPROTO_UDP}
	for i := range n {
		key.GuestPort, key.RemotePort = uint16(i), uint16(i>>8)
		f, _ := table.Insert(&key, 1, nothing)
		require.NotZero(t, f)
	}
	key.RemotePort++
	f, exists := table.Insert(&key, 1, nothing)
	require.Zero(t, f, "the table is full")
	require.True(t, table.Full())
	require.False(t, exists)
	key.RemotePort--
	for i := range n {
		key.GuestPort, key.RemotePort = uint16(i), uint16(i>>8)
		require.NotZero(t, table.Lookup(&key))
	}
	seen := 0
	table.Each(1, func(uint32) { seen++ })
	require.Equal(t, n, seen)
	table.Each(2, func(uint32) { t.Fatal("it has none") })
}

func TestAnOldSocketsEventReachesNoNewFlow(t *testing.T) {
	table := New(10)
	key := Key{GuestPort: 1}
	index, _ := table.Insert(&key, 1, nothing)
	gen := table.Generation(index)
	require.True(t, table.IsCurrent(index, gen, 1))
	require.False(t, table.IsCurrent(index, gen, 2), "it is not his")
	table.Unlink(index)
	require.False(t, table.IsCurrent(index, gen, 1), "it is over")
	table.Each(1, func(uint32) { t.Fatal("it is over") })
	table.Release(index)
	fresh, _ := table.Insert(&key, 1, nothing)
	require.Equal(t, index, fresh, "the index is used again")
	require.False(t, table.IsCurrent(index, gen, 1))
	require.True(t, table.IsCurrent(fresh, table.Generation(fresh), 1))
	require.False(t, table.IsCurrent(0, 0, 1))
	require.False(t, table.IsCurrent(1<<31, 0, 1))

	gen = table.Generation(fresh)
	table.Renew(fresh)
	require.False(t, table.IsCurrent(fresh, gen, 1), "it has another socket")
}

func TestGenerationsFitTheirBits(t *testing.T) {
	table := New(10)
	index, _ := table.Insert(&Key{}, 1, nothing)
	table.at(index).gen = GenerationMask
	table.Renew(index)
	require.Zero(t, table.Generation(index))
}

// So many flows that are over may wait for their lookups beside those that live.
func TestFlowsThatAreOverTakeNoPlaceOfOthersUntilThereAreTooMany(t *testing.T) {
	table := New(1)
	var over []uint32
	for range Spare + 1 {
		i, _ := table.Insert(&Key{}, 1, nothing)
		require.NotZero(t, i)
		table.Unlink(i)
		over = append(over, i)
	}
	i, exists := table.Insert(&Key{}, 1, nothing)
	require.Zero(t, i)
	require.False(t, exists)
	table.Release(over[0])
	i, _ = table.Insert(&Key{}, 1, nothing)
	require.Equal(t, over[0], i)
}

func TestAnIndexOnItsWayBelongsToNobody(t *testing.T) {
	table := New(10)
	i, _ := table.Insert(&Key{}, 1, nothing)
	gen := table.Generation(i)
	table.Send(i, 2)
	require.EqualValues(t, 2, table.OwnerOf(i), "who wants it asks there")
	for owner := range uint32(3) {
		require.False(t, table.IsOf(i, owner))
		require.False(t, table.IsCurrent(i, gen, owner))
	}
	table.Own(i, 2)
	require.True(t, table.IsOf(i, 2))
	require.True(t, table.IsCurrent(i, gen, 2))
	table.Unlink(i)
	table.Release(i)
	require.EqualValues(t, Nobody, table.OwnerOf(i))
}

func TestAKeyHasOneOwner(t *testing.T) {
	table := New(10)
	key := Key{GuestPort: 1}
	_, exists := table.Insert(&key, 1, nothing)
	require.False(t, exists)
	i, exists := table.Insert(&key, 2, func(uint32) { t.Fatal("there is no room for another one") })
	require.Zero(t, i)
	require.True(t, exists)
}

func TestNobodyFindsAFlowBeforeItIsPrepared(t *testing.T) {
	table := New(10)
	key := Key{GuestPort: 1}
	prepared := uint32(None)
	i, _ := table.Insert(&key, 1, func(i uint32) {
		require.Zero(t, table.Lookup(&key))
		require.EqualValues(t, Nobody, table.OwnerOf(i))
		prepared = i
	})
	require.Equal(t, i, prepared)
	require.Equal(t, i, table.Lookup(&key))
}

// Owners insert, look up and end flows of the same few keys at the same time. What a lookup finds was prepared, and belongs to
// its key.
func TestLookupsAndChangesAtTheSameTimeAgree(t *testing.T) {
	const keys, owners, rounds = 8, 4, 2000
	table := New(keys * owners)
	prepared := NewSlab[atomic.Uint32](table)
	var over sync.RWMutex // held for reading while what a lookup has found is used
	var wg sync.WaitGroup
	for owner := range uint32(owners) {
		wg.Go(func() {
			for n := range rounds {
				key := Key{GuestPort: uint16(n%keys) + 1}
				i, exists := table.Insert(&key, owner+1, func(i uint32) { prepared.Make(i).Store(uint32(key.GuestPort)) })
				if exists {
					over.RLock()
					if found := table.Lookup(&key); found != None && prepared.At(found).Load() != uint32(key.GuestPort) {
						t.Errorf("a flow of port %d was found for port %d", prepared.At(found).Load(), key.GuestPort)
					}
					over.RUnlock()
					continue
				}
				table.Unlink(i)
				over.Lock() // so every lookup has ended that began before
				table.Release(i)
				over.Unlock()
			}
		})
	}
	wg.Wait()
	require.Zero(t, table.Live())
	require.Zero(t, table.count)
}

func TestTheTableAllocatesNothingForEachFlow(t *testing.T) {
	table := New(10)
	slab := NewSlab[[100]byte](table)
	key := Key{GuestPort: 1}
	begin := func() {
		i, _ := table.Insert(&key, 1, func(i uint32) { slab.Make(i)[0] = 1 })
		table.Unlink(table.Lookup(&key))
		table.Release(i)
	}
	begin()
	require.Zero(t, testing.AllocsPerRun(100, begin))
}
