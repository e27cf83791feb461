package pathmtu

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
	var paths Table
	to := nth(1)
	require.False(t, paths.Any())
	require.Equal(t, 1500, paths.MTU(&to, 1500, 0))
	require.True(t, paths.Narrow(&to, 1400, 0))
	require.Equal(t, 1400, paths.MTU(&to, 1500, 0))
	require.Equal(t, 1300, paths.MTU(&to, 1300, 0), "the guest's own link is narrower")
	require.False(t, paths.Narrow(&to, 1400, 0), "no news")
	require.False(t, paths.Narrow(&to, 1450, 0), "nobody tells that a path has become wider")
	require.True(t, paths.Narrow(&to, 1280, 0))
	require.Equal(t, 1280, paths.MTU(&to, 1500, 0))
	other := nth(2)
	require.Equal(t, 1500, paths.MTU(&other, 1500, 0))
}

func TestANarrowPathIsForgottenAfterAWhile(t *testing.T) {
	var paths Table
	old, young := nth(1), nth(2)
	paths.Narrow(&old, 1400, 0)
	paths.Narrow(&young, 1300, lifetime/2)
	require.Equal(t, 1400, paths.MTU(&old, 1500, lifetime-1))
	require.Equal(t, 1500, paths.MTU(&old, 1500, lifetime))
	require.True(t, paths.Prune(lifetime))
	require.Equal(t, 1300, paths.MTU(&young, 1500, lifetime))
	require.True(t, paths.Narrow(&old, 1450, lifetime), "it may be narrow in another way now")
	require.False(t, paths.Prune(3*lifetime))
	require.False(t, paths.Any(), "nothing is to be looked up any more")
}

func TestNarrowPathsAreBounded(t *testing.T) {
	var paths Table
	for i := range 3 * maxPaths {
		to := nth(i)
		require.True(t, paths.Narrow(&to, 1400, int64(i)))
		require.LessOrEqual(t, len(*paths.known.Load()), maxPaths)
	}
	first, last := nth(0), nth(3*maxPaths-1)
	require.Equal(t, 1500, paths.MTU(&first, 1500, 0), "those go that were told first")
	require.Equal(t, 1400, paths.MTU(&last, 1500, 0))
}

func TestPathsAreReadWhileTheyChange(t *testing.T) {
	var paths Table
	to := nth(1)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range 1000 {
				paths.Narrow(&to, 1500-i, 0)
			}
		})
		wg.Go(func() {
			for before, i := 1500, 0; i < 1000; i++ {
				now := paths.MTU(&to, 1500, 0)
				require.LessOrEqual(t, now, before)
				before = now
			}
		})
	}
	wg.Wait()
	require.Equal(t, 501, paths.MTU(&to, 1500, 0))
}

func TestARouterThatDoesNotSayHowMuchPassesIsTriedInSteps(t *testing.T) {
	var steps []int
	for n := 1500; n > Least; n = Plateau(n) {
		steps = append(steps, n)
	}
	require.Equal(t, []int{1500, 1492, 1006, 508, 296}, steps)
	require.Equal(t, Least, Plateau(Least))
	require.Equal(t, 32000, Plateau(65535))
}
