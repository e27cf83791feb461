package l2switch

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const second = int64(1e9)

func TestAFloodOfAddressesStaysWithinTheTable(t *testing.T) {
	tab := newTable(MaxAddresses, 300*second)
	const many = 100_000
	for i := range many {
		tab.see(addressOf(mac(i+1)<<1, 1), 0, many, second)
	}
	require.Greater(t, tab.known(0), many*9/10)
	for i := range 3 * many {
		tab.see(addressOf(mac(many+i+1)<<1, 1), 0, many, second)
	}
	require.LessOrEqual(t, tab.known(0), many)
	found := 0
	for i := range tab.entries {
		if tab.entries[i].place.Load() != 0 {
			found++
		}
	}
	require.Equal(t, tab.known(0), found)
}

// However many addresses the others have, a Port with a few has its own.
func TestAFloodPushesNobodyElseOut(t *testing.T) {
	tab := newTable(1024, 300*second)
	for port := range 8 {
		for i := range 1000 {
			tab.see(addressOf(mac(port*1000+i+1)<<1, 1), port, 1000, second)
		}
	}
	for i := range 20 {
		a := addressOf(mac(1e6+i)<<1, 1)
		require.Equal(t, learned, tab.see(a, 9, 1000, second), "it has a place, whoever must go")
	}
	for port := range 8 {
		for i := range 5000 {
			tab.see(addressOf(mac(1e7+port*5000+i)<<1, 1), port, 1000, second)
		}
	}
	for i := range 20 {
		require.Equal(t, 9, tab.lookUp(addressOf(mac(1e6+i)<<1, 1), second))
	}
}

func TestAddressesThatAreTooOldMakeRoom(t *testing.T) {
	tab := newTable(64, 10*second)
	for i := range 5 {
		require.Equal(t, learned, tab.see(addressOf(mac(i+1)<<1, 1), 0, 5, second))
	}
	require.Equal(t, full, tab.see(addressOf(100, 1), 0, 5, 9*second))
	require.Equal(t, known, tab.see(addressOf(2, 1), 0, 5, 9*second))
	require.Equal(t, learned, tab.see(addressOf(100, 1), 0, 5, 15*second))
	require.Equal(t, 2, tab.known(0), "one was seen since")
	require.Equal(t, 0, tab.lookUp(addressOf(2, 1), 15*second))
	require.Equal(t, -1, tab.lookUp(addressOf(4, 1), 15*second))
}

func TestAnAddressIsRefreshedWithoutTheLock(t *testing.T) {
	tab := newTable(64, 10*second)
	tab.see(addressOf(2, 1), 0, 5, second)
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for s := range int64(100) {
		require.Equal(t, known, tab.see(addressOf(2, 1), 0, 5, s*second))
	}
}

// A reader never finds a place at which an address was not, whoever changes what meanwhile. Each Port has addresses of its
// own here, so a wrong one is seen at once.
func TestReadersFindNoWrongPlace(t *testing.T) {
	tab := newTable(64, 300*second)
	const ports, addresses = 4, 200
	var wg sync.WaitGroup
	for port := range ports {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(port)))
			for i := range 20_000 {
				n := r.IntN(addresses)
				tab.see(addressOf(mac(n*ports+port)<<1|1<<20, 1), port, 1000, second+int64(i)*1e6)
				if r.IntN(1000) == 0 {
					tab.forget(port)
				}
			}
		})
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(port)))
			for i := range 50_000 {
				n := r.IntN(addresses * ports)
				if at := tab.lookUp(addressOf(mac(n)<<1|1<<20, 1), second+int64(i)*1e6); at >= 0 && at != n%ports {
					t.Errorf("address of port %d found at %d", n%ports, at)
					return
				}
			}
		})
	}
	wg.Wait()
}
