package nat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
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
	slow.shard.Worker, fast.shard.Worker = porttest.DeafWorker{}, porttest.DeafWorker{}
	slow.shard.Connected, fast.shard.Connected = true, true
	insert := func(owner *Port, port uint16) (*flowtable.Key, *shard.Flow) {
		key := flowtable.Key{Guest: [16]byte{15: 1}, GuestPort: port, RemotePort: 2, Proto: netpkt.ICMP}
		f, at := slow.shard.Flows.Create(&key, owner.shard.Owner, func(uint32) {})
		require.Equal(t, shard.Here, at)
		f.State = shard.StateActive
		owner.ledger.Created(f)
		return &key, f
	}

	for port := range uint16(20) {
		insert(slow, 100+port) // more than end in one turn
	}
	key, f := insert(slow, 1)
	slow.presence.OnFrontendGone()
	require.True(t, slow.presence.IsDeparting())
	require.Equal(t, shard.StateActive, f.State)
	fast.shard.TakeMail()
	slow.grant(key, fast.shard)
	require.Equal(t, shard.StateDead, f.State)
	require.Nil(t, slow.shard.Flows.Find(key))
	require.NotNil(t, fast.shard.TakeMail(), "it looks again")

	_, f = insert(fast, 1)
	fast.shard.ScheduleMove(f, slow.shard)
	require.Same(t, f, fast.turn.NextFlow())
	fast.handOver(f)
	slow.receiveMail(&slow.turn)
	require.Equal(t, shard.StateDead, f.State, "nor does it take one")

	for slow.presence.IsDeparting() {
		slow.presence.DepartSome()
	}
	key, f = insert(slow, 1)
	slow.grant(key, fast.shard)
	require.True(t, f.IsLeaving(), "else it does both")
	slow.drop(f, stats.EndClosed)
}
