package fdb

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const second = int64(1e9)

func TestAFloodOfAddressesStaysWithinTheTable(t *testing.T) {
	tab := New(1<<17, 300*second)
	const many = 100_000
	for i := range many {
		tab.See(AddressOf(MAC(i+1)<<1, 1), 0, many, second)
	}
	require.Greater(t, tab.Count(0), many*9/10)
	for i := range 3 * many {
		tab.See(AddressOf(MAC(many+i+1)<<1, 1), 0, many, second)
	}
	require.LessOrEqual(t, tab.Count(0), many)
	found := 0
	for i := range tab.entries {
		if tab.entries[i].place.Load() != 0 {
			found++
		}
	}
	require.Equal(t, tab.Count(0), found)
}

// However many addresses the others have, a Port with a few has its own.
func TestAFloodPushesNobodyElseOut(t *testing.T) {
	tab := New(1024, 300*second)
	for port := range 8 {
		for i := range 1000 {
			tab.See(AddressOf(MAC(port*1000+i+1)<<1, 1), port, 1000, second)
		}
	}
	for i := range 20 {
		a := AddressOf(MAC(1e6+i)<<1, 1)
		require.Equal(t, Learned, tab.See(a, 9, 1000, second), "it has a place, whoever must go")
	}
	for port := range 8 {
		for i := range 5000 {
			tab.See(AddressOf(MAC(1e7+port*5000+i)<<1, 1), port, 1000, second)
		}
	}
	for i := range 20 {
		require.Equal(t, 9, tab.LookUp(AddressOf(MAC(1e6+i)<<1, 1), second))
	}
}

func TestAddressesThatAreTooOldMakeRoom(t *testing.T) {
	tab := New(64, 10*second)
	for i := range 5 {
		require.Equal(t, Learned, tab.See(AddressOf(MAC(i+1)<<1, 1), 0, 5, second))
	}
	require.Equal(t, Full, tab.See(AddressOf(100, 1), 0, 5, 9*second))
	require.Equal(t, Known, tab.See(AddressOf(2, 1), 0, 5, 9*second))
	require.Equal(t, Learned, tab.See(AddressOf(100, 1), 0, 5, 15*second))
	require.Equal(t, 2, tab.Count(0), "one was seen since")
	require.Equal(t, 0, tab.LookUp(AddressOf(2, 1), 15*second))
	require.Equal(t, -1, tab.LookUp(AddressOf(4, 1), 15*second))
}

func TestAnAddressIsRefreshedWithoutTheLock(t *testing.T) {
	tab := New(64, 10*second)
	tab.See(AddressOf(2, 1), 0, 5, second)
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for s := range int64(100) {
		require.Equal(t, Known, tab.See(AddressOf(2, 1), 0, 5, s*second))
	}
}

// A reader never finds a place at which an address was not, whoever changes what meanwhile. Each Port has addresses of its
// own here, so a wrong one is seen at once.
func TestReadersFindNoWrongPlace(t *testing.T) {
	tab := New(64, 300*second)
	const ports, addresses = 4, 200
	var wg sync.WaitGroup
	for port := range ports {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(port)))
			for i := range 20_000 {
				n := r.IntN(addresses)
				tab.See(AddressOf(MAC(n*ports+port)<<1|1<<20, 1), port, 1000, second+int64(i)*1e6)
				if r.IntN(1000) == 0 {
					tab.Forget(port)
				}
			}
		})
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(port)))
			for i := range 50_000 {
				n := r.IntN(addresses * ports)
				if at := tab.LookUp(AddressOf(MAC(n)<<1|1<<20, 1), second+int64(i)*1e6); at >= 0 && at != n%ports {
					t.Errorf("address of port %d found at %d", n%ports, at)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestEntriesAreThoseThatAreNotTooOld(t *testing.T) {
	tab := New(64, 10*second)
	tab.See(AddressOf(2, 7), 3, 5, second)
	tab.See(AddressOf(4, 1), 1, 5, 15*second)
	require.Equal(t, []Entry{{MAC: 4, VLAN: 1, Port: 1, Age: second}}, tab.Entries(16*second, 10))
	require.Len(t, tab.Entries(5*second, 1), 1, "no more than were asked for")
}
