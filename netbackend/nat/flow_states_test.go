package nat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
)

func TestAllStatesOfFlowsHaveAName(t *testing.T) {
	p := &Port{}
	for proto, state := range map[uint8]shard.State{
		netpkt.UDP: shard.StateActive, netpkt.ICMP: shard.StateActive, netpkt.TCP: shard.StateLingering,
	} {
		name := p.stateOf(&shard.Flow{Key: flowtable.Key{Proto: proto}, State: state})
		require.Contains(t, FlowStates(), name)
	}
	require.Len(t, FlowStates(), 3+len(tcp.StateNames()), "no other has one")
	require.Subset(t, FlowStates(), tcp.StateNames())
}
