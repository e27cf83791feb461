package nat

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

func nth(i int) (a ipaddr.Addr) {
	binary.BigEndian.PutUint32(a[12:], uint32(i))
	return a
}

func TestAPathIsAsNarrowAsItsNarrowestLink(t *testing.T) {
	var paths pathTable
	to := nth(1)
	require.False(t, paths.any())
	require.Equal(t, 1500, paths.mtu(&to, 1500, 0))
	require.True(t, paths.narrow(&to, 1400, 0))
	require.Equal(t, 1400, paths.mtu(&to, 1500, 0))
	require.Equal(t, 1300, paths.mtu(&to, 1300, 0), "the guest's own link is narrower")
	require.False(t, paths.narrow(&to, 1400, 0), "no news")
	require.False(t, paths.narrow(&to, 1450, 0), "nobody tells that a path has become wider")
	require.True(t, paths.narrow(&to, 1280, 0))
	require.Equal(t, 1280, paths.mtu(&to, 1500, 0))
	other := nth(2)
	require.Equal(t, 1500, paths.mtu(&other, 1500, 0))
}

func TestANarrowPathIsForgottenAfterAWhile(t *testing.T) {
	var paths pathTable
	old, young := nth(1), nth(2)
	paths.narrow(&old, 1400, 0)
	paths.narrow(&young, 1300, pathLifetime/2)
	require.Equal(t, 1400, paths.mtu(&old, 1500, pathLifetime-1))
	require.Equal(t, 1500, paths.mtu(&old, 1500, pathLifetime))
	require.True(t, paths.prune(pathLifetime))
	require.Equal(t, 1300, paths.mtu(&young, 1500, pathLifetime))
	require.True(t, paths.narrow(&old, 1450, pathLifetime), "it may be narrow in another way now")
	require.False(t, paths.prune(3*pathLifetime))
	require.False(t, paths.any(), "nothing is to be looked up any more")
}

func TestNarrowPathsAreBounded(t *testing.T) {
	var paths pathTable
	for i := range 3 * maxPaths {
		to := nth(i)
		require.True(t, paths.narrow(&to, 1400, int64(i)))
		require.LessOrEqual(t, len(*paths.known.Load()), maxPaths)
	}
	first, last := nth(0), nth(3*maxPaths-1)
	require.Equal(t, 1500, paths.mtu(&first, 1500, 0), "those go that were told first")
	require.Equal(t, 1400, paths.mtu(&last, 1500, 0))
}

func TestPathsAreReadWhileTheyChange(t *testing.T) {
	var paths pathTable
	to := nth(1)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range 1000 {
				paths.narrow(&to, 1500-i, 0)
			}
		})
		wg.Go(func() {
			for before, i := 1500, 0; i < 1000; i++ {
				now := paths.mtu(&to, 1500, 0)
				require.LessOrEqual(t, now, before)
				before = now
			}
		})
	}
	wg.Wait()
	require.Equal(t, 501, paths.mtu(&to, 1500, 0))
}

func TestARouterThatDoesNotSayHowMuchPassesIsTriedInSteps(t *testing.T) {
	var steps []int
	for n := 1500; n > leastPath; n = plateau(n) {
		steps = append(steps, n)
	}
	require.Equal(t, []int{1500, 1492, 1006, 508, 296}, steps)
	require.Equal(t, leastPath, plateau(leastPath))
	require.Equal(t, 32000, plateau(65535))
}
