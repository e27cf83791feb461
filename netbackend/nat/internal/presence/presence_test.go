package presence

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// watched is a Keeper whose hooks are counted.
type watched struct {
	Keeper
	*shardtest.Shard
	lost, dead int
	dropped    []stats.CloseReason
}

func watch(t *testing.T, grace time.Duration) *watched {
	w := &watched{Shard: shardtest.New(t, 0)}
	w.Keeper.SetUp(&w.Turn.Shard, grace, Hooks{
		Lost: func() { w.lost++ }, Dead: func() { w.dead++ },
		Drop: func(f *shard.Flow, c stats.CloseReason) {
			w.dropped = append(w.dropped, c)
			w.Remove(f)
		},
	})
	return w
}

// flow makes a flow of the guest's.
func (w *watched) flow(t *testing.T, port uint16) {
	t.Helper()
	f, _ := w.Create(&flowtable.Key{Guest: shardtest.Addr("10.0.2.15"), GuestPort: port, RemotePort: 9, Proto: netpkt.UDP}, -1, shard.StateActive, shard.NoSocket, shard.ClassAssociations)
	require.NotNil(t, f)
}

// at is what is checked at a time in seconds, after whatever is due then.
func (w *watched) at(seconds float64) {
	w.At(1 + int64(seconds*1e9))
	w.CheckGrace(w.Turn)
}

func TestAGuestIsTakenForDeadAfterAWhile(t *testing.T) {
	const frontEnd, driver = false, true
	for name, c := range map[string]struct {
		grace time.Duration
		what  bool
		dies  float64 // in seconds after it was noticed
		cause stats.CloseReason
	}{
		"the front end, at once":      {0, frontEnd, 0, stats.EndGuestGone},
		"the front end, with a grace": {30 * time.Second, frontEnd, 30, stats.EndGuestGone},
		"the driver":                  {0, driver, 5, stats.EndDriverGone},
		"the driver, a shorter grace": {2 * time.Second, driver, 5, stats.EndDriverGone},
		"the driver, a longer grace":  {time.Minute, driver, 60, stats.EndDriverGone},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, c.grace)
			w.flow(t, 1)
			require.Empty(t, w.Standstill())
			if c.what == driver {
				w.OnDriver(true)
				require.Equal(t, "no driver", w.Standstill())
			} else {
				w.OnFrontendGone()
				require.Equal(t, 1, w.lost)
			}
			if c.dies > 0 {
				w.at(0)
				require.EqualValues(t, 1+c.dies*1e9, w.Next())
				w.at(c.dies - 0.001)
				require.Zero(t, w.dead)
				w.at(c.dies)
			}
			require.Equal(t, 1, w.dead)
			require.Equal(t, []stats.CloseReason{c.cause}, w.dropped)
			require.Zero(t, w.Flows.Live())
			w.at(c.dies + 1)
			require.Zero(t, w.Next(), "it is over")
			require.Equal(t, 1, w.dead)
		})
	}
}

func TestWhatComesBackInTimeKeepsItsConnections(t *testing.T) {
	w := watch(t, 30*time.Second)
	w.flow(t, 1)
	w.OnFrontendGone()
	w.at(0)
	require.Equal(t, "no front end", w.Standstill())
	w.at(29)
	w.Gone = shard.NothingGone // a driver has begun
	w.at(31)
	require.Zero(t, w.Next())
	require.Zero(t, w.dead)
	require.Empty(t, w.dropped)

	w.OnFrontendGone()
	w.at(40)
	require.EqualValues(t, 1+70e9, w.Next(), "the next time is another one")
}

// Only the first news of a reset counts: a pair that hears of it again waits no longer.
func TestADriverThatStaysAwayIsNotWaitedForTwice(t *testing.T) {
	w := watch(t, 0)
	w.OnDriver(true)
	w.at(0)
	w.OnDriver(true)
	w.at(4)
	require.EqualValues(t, 1+5e9, w.Next())
	w.OnDriver(false)
	require.False(t, w.DriverReset)
}

func TestManyFlowsOfADeadGuestEndInSlices(t *testing.T) {
	w := watch(t, 0)
	for port := range uint16(25) {
		w.flow(t, port+1)
	}
	w.OnFrontendGone()
	const aSlice = int(slice / endCost)
	for ended := aSlice; ended < 25; ended += aSlice {
		require.Len(t, w.dropped, ended)
		require.True(t, w.IsDeparting())
		require.Equal(t, stats.EndGuestGone, w.Cause())
		w.DepartSome()
	}
	require.Len(t, w.dropped, 25)
	require.False(t, w.IsDeparting())
}

func TestConnectionsStandStillWhileTheRingIsStopped(t *testing.T) {
	w := watch(t, 0)
	w.Receiving = false
	require.Equal(t, "paused", w.Standstill())
}
