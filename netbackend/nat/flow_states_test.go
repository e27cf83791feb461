package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllStatesOfFlowsHaveAName(t *testing.T) {
	named := map[string]bool{}
	for state := stateUDP; state < stateDead; state++ {
		for _, bits := range []flowBits{0, guestFIN, finSent, guestFIN | finSent} {
			name := stateName(&flow{state: state, bits: bits})
			require.Contains(t, FlowStates(), name)
			named[name] = true
		}
	}
	require.Len(t, named, len(FlowStates()), "no other has one")
}
