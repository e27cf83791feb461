package stats

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryCloseReasonHasACounterOfItsOwn(t *testing.T) {
	var e Ends
	for i := range e {
		e[i] = uint64(i) + 1
	}
	n := uint64(0)
	seen := map[string]bool{}
	for name, count := range e.All() {
		n++
		require.Equal(t, n, count, name)
		require.True(t, strings.HasPrefix(name, "ended_"), name)
		require.False(t, seen[name], name)
		require.NotEmpty(t, e.Help(name))
		seen[name] = true
	}
	require.EqualValues(t, reasons, n)
	require.Empty(t, e.Help("ended_otherwise"))
}

func TestNamesCanBeReadUpToOne(t *testing.T) {
	for name := range (Ends{}).All() {
		require.Equal(t, "ended_for_no_reason", name)
		break
	}
}
