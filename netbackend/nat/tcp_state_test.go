package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllStatesOfConnectionsHaveAName(t *testing.T) {
	named := map[string]bool{}
	for state := stateConnecting; state <= stateReset; state++ {
		for _, flags := range []tcpFlags{0, guestFIN, finSent, guestFIN | finSent} {
			named[stateName(state, flags)] = true
		}
	}
	for name := range named {
		require.Contains(t, stateNames(), name)
	}
	require.Len(t, named, len(stateNames()), "no other has one")
}
