package flowlist

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

// listAt is a list of flows that have sent and received that much so far.
func listAt(at time.Time, bytes map[string][2]uint64) *List {
	l := &List{At: at}
	for remote, n := range bytes {
		l.Add("10.0.2.15", []api.Flow{{
			Proto: "tcp", Guest: "10.0.2.15:40000", Remote: remote, FromGuest: n[0], ToGuest: n[1], AgeMillis: int64(len(remote)) * 1000,
		}})
	}
	return l
}

// remotes returns the other ends of flows in their order.
func (l *List) remotes() (remotes []string) {
	for i := range l.Flows {
		remotes = append(remotes, l.Flows[i].Remote)
	}
	return remotes
}

func TestFlowsAreMeasuredAndSorted(t *testing.T) {
	start := time.Now()
	before := listAt(start, map[string][2]uint64{"fast": {1000, 0}, "finished": {9000, 9000}, "reused": {500, 500}})
	now := listAt(start.Add(2*time.Second), map[string][2]uint64{"fast": {5000, 200}, "finished": {9000, 9000}, "reused": {100, 100}, "new": {0, 6000}})
	before.Measure(&List{})
	require.False(t, before.Measured, "there is nothing to compare with")
	now.Measure(before)
	require.True(t, now.Measured)
	for order, want := range map[string][]string{
		ByRate:  {"new", "fast", "reused", "finished"}, // 3000, 2100, 100 and 0 bytes a second
		ByBytes: {"finished", "new", "fast", "reused"},
		ByAge:   {"finished", "reused", "fast", "new"},
	} {
		now.Sort(order)
		require.Equal(t, want, now.remotes(), order)
	}
}
