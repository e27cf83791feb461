package nat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

func TestAllStatesOfFlowsHaveAName(t *testing.T) {
	named := map[string]bool{}
	p := &Port{}
	for proto, state := range map[uint8]shard.State{
		netpkt.UDP: shard.StateActive, netpkt.ICMP: shard.StateActive, netpkt.TCP: shard.StateLingering,
	} {
		named[p.stateOf(&shard.Flow{Key: flowtable.Key{Proto: proto}, State: state})] = true
	}
	for state := stateConnecting; state <= stateReset; state++ {
		for _, flags := range []tcpFlags{0, guestFIN, finSent, guestFIN | finSent} {
			named[stateName(state, flags)] = true
		}
	}
	for name := range named {
		require.Contains(t, FlowStates(), name)
	}
	require.Len(t, named, len(FlowStates()), "no other has one")
}
