package tcp

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllStatesOfConnectionsHaveAName(t *testing.T) {
	named := map[string]bool{}
	for state := stateConnecting; state <= stateReset; state++ {
		for _, flags := range []flags{0, guestFIN, finSent, guestFIN | finSent} {
			named[stateName(state, flags)] = true
		}
	}
	for name := range named {
		require.Contains(t, StateNames(), name)
	}
	require.Len(t, named, len(StateNames()), "no other has one")
}
