package nat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/netbackend/porttest"
)

// A queue pair that is done may have frames of another guest already, for a flow of the last one that a slower pair still has.
func TestAFlowOfAGuestThatIsGoneIsNotHandedOver(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ResolvConf, cfg.Queues = "", 2
	ports, err := NewPairs(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, p := range ports {
			require.NoError(t, p.Close())
		}
	})
	slow, fast := ports[0], ports[1]
	slow.shard.worker, fast.shard.worker = porttest.DeafWorker{}, porttest.DeafWorker{}
	slow.shard.connected, fast.shard.connected = true, true
	key := flowtable.Key{Guest: [16]byte{15: 1}, GuestPort: 1, RemotePort: 2, Proto: netpkt.UDP}
	insert := func(owner *Port) *flow {
		f, at := slow.shard.flows.insert(&key, owner.shard.me, owner.udp.begin(udpFlow{}))
		require.Equal(t, here, at)
		f.state = stateActive
		return f
	}

	f := insert(slow)
	slow.departure = departure{next: firstRecord, cause: stats.EndGuestGone}
	fast.shard.takeMail()
	slow.grant(&key, fast.shard)
	require.Equal(t, stateDead, f.state)
	require.Nil(t, slow.shard.flows.lookup(&key))
	require.NotNil(t, fast.shard.takeMail(), "it looks again")

	f = insert(fast)
	fast.shard.scheduleMove(f, slow.shard)
	require.Same(t, f, fast.turn.nextFlow())
	fast.handOver(f)
	slow.receiveMail(&slow.turn)
	require.Equal(t, stateDead, f.state, "nor does it take one")

	slow.departure = departure{}
	f = insert(slow)
	slow.grant(&key, fast.shard)
	require.True(t, f.isLeaving(), "else it does both")
	slow.drop(f, stats.EndClosed)
}
