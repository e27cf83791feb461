package shard

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

func TestEveryClassOfFlowsHasALimitAndAName(t *testing.T) {
	seen := map[limits.Limit]bool{}
	for c := ClassNone + 1; c < NumClasses; c++ {
		require.Contains(t, []limits.Limit{
			limits.Lingering, limits.Connects, limits.Calls, limits.Associations, limits.Peers, limits.Strangers,
		}, c.limit())
		require.False(t, seen[c.limit()], "class %d shares its limit", c)
		require.NotEmpty(t, c.String())
		seen[c.limit()] = true
	}
}
