package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllStatesOfFlowsHaveAName(t *testing.T) {
	named := map[string]bool{}
	p := &Port{}
	for _, state := range []flowState{stateUDP, statePing} {
		named[p.stateOf(&flow{state: state})] = true
	}
	for state := stateConnecting; state < stateDead; state++ {
		for _, flags := range []tcpFlags{0, guestFIN, finSent, guestFIN | finSent} {
			named[stateName(state, flags)] = true
		}
	}
	for name := range named {
		require.Contains(t, FlowStates(), name)
	}
	require.Len(t, named, len(FlowStates()), "no other has one")
}
