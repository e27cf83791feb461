package shard

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

func TestEveryClassOfFlowsHasALimitAndAName(t *testing.T) {
	seen := map[limits.Limit]bool{}
	for c := ClassConnects; c < NumClasses; c++ {
		require.GreaterOrEqual(t, c.limit(), limits.Connects)
		require.LessOrEqual(t, c.limit(), limits.Peers)
		require.False(t, seen[c.limit()], "class %d shares its limit", c)
		require.NotEmpty(t, c.String())
		seen[c.limit()] = true
	}
}
