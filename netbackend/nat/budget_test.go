package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryLimitHasACounterAndSaysWhatItIs(t *testing.T) {
	var c Counters
	seen := map[*uint64]bool{}
	for l := range limits {
		require.NotNil(t, c.counterOf(l))
		require.False(t, seen[c.counterOf(l)], "limit %d shares its counter", l)
		require.NotEmpty(t, l.String())
		seen[c.counterOf(l)] = true
	}
	for c := classConnects; c < classes; c++ {
		require.GreaterOrEqual(t, c.limit(), limitConnects)
		require.LessOrEqual(t, c.limit(), limitPeers)
	}
}
