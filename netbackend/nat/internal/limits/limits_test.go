package limits

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/stats"
)

func TestEveryLimitHasACounterAndSaysWhatItIs(t *testing.T) {
	var c stats.Counters
	seen := map[*uint64]bool{}
	for l := range count {
		require.NotNil(t, l.Counter(&c))
		require.False(t, seen[l.Counter(&c)], "limit %d shares its counter", l)
		require.NotEmpty(t, l.String())
		seen[l.Counter(&c)] = true
	}
}

func TestEveryKindOfSlowWorkHasABudgetOfItsOwn(t *testing.T) {
	const many = 10000
	for flooded := range works {
		var b Budgets
		b.Fill()
		n := 0
		for ; n < many && b.Take(flooded, 1); n++ {
		}
		require.NotZero(t, n, "kind %d", flooded)
		require.Less(t, n, many, "kind %d", flooded)
		for other := range works {
			require.Equal(t, other != flooded, b.Take(other, 1), "a flood of %d costs that, and not %d", flooded, other)
		}
		require.True(t, b.Take(flooded, 1+1e9), "a second later there is more")
	}
}

func TestTheUserIsToldOfALimitSeldom(t *testing.T) {
	var c stats.Counters
	var r Reports
	n, tell := r.Hit(&c, Flows, 5)
	require.True(t, tell)
	require.EqualValues(t, 1, n)
	_, tell = r.Hit(&c, Sockets, 5)
	require.True(t, tell, "another one is another matter")
	n, tell = r.Hit(&c, Flows, reportInterval)
	require.False(t, tell)
	require.EqualValues(t, 2, n)
	n, tell = r.Hit(&c, Flows, reportInterval+5)
	require.True(t, tell)
	require.EqualValues(t, 3, n)
	require.EqualValues(t, 3, c.TableFull)
}

// A hit on a limit is a refusal, or something else goes: users are told of frames that were dropped for a refusal only.
func TestLimitsRefuseOrMakeRoom(t *testing.T) {
	for l := range count {
		refuses := true
		switch l {
		case Connects, Calls, Associations, Strangers, Peers, Memory, Lingering:
			refuses = false
		}
		require.Equal(t, refuses, l.Refuses(), l.String())
	}
}
