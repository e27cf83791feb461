package pace_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/pace"
)

func TestTheFirstFewEndsCostNoPauseAndEachMoreALongerOne(t *testing.T) {
	var p pace.Pacer
	now := time.Unix(1000, 0)
	end := func(lasted, later time.Duration) time.Duration {
		now = now.Add(later)
		return p.Ended(now.Add(-lasted), now)
	}
	for range pace.FreeEnds {
		require.Zero(t, end(0, time.Millisecond))
	}
	require.True(t, p.Storm())
	before := time.Duration(0)
	for range 20 {
		d := end(0, time.Millisecond)
		require.GreaterOrEqual(t, d, before)
		before = d
	}
	require.Equal(t, pace.MaxPause, before)
	require.NotZero(t, end(0, time.Second), "a second forgives one only")
	require.Zero(t, end(0, time.Minute), "a minute all")
	for range pace.FreeEnds {
		end(0, 0)
	}
	require.Zero(t, end(pace.QuickEnd, 0), "who stays is not slowed down")
	require.False(t, p.Storm())
}
