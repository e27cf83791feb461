package counting_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
)

func TestQuantilesAreThoseOfTheSortedTimesToASixteenth(t *testing.T) {
	for _, most := range []int64{10, 1000, 1e6, 1e12, math.MaxInt64} {
		var h counting.FineHistogram
		random := rand.New(rand.NewPCG(1, uint64(most)))
		var all []int64
		for range 10_000 {
			n := random.Int64N(most)
			h.Observe(n, 1)
			all = append(all, n)
		}
		slices.Sort(all)
		parts := []float64{0.01, 0.5, 0.9, 0.99, 0.999, 1}
		times, longest := h.Quantiles(parts...)
		require.EqualValues(t, all[len(all)-1], longest)
		for i, part := range parts {
			want := all[int(math.Ceil(part*float64(len(all))))-1]
			require.GreaterOrEqual(t, int64(times[i]), want, "%v of %d", part, most)
			require.LessOrEqual(t, float64(times[i]), float64(want)*17/16, "%v of %d", part, most)
		}
	}
}

func TestAFineHistogramTakesWhateverComes(t *testing.T) {
	var h counting.FineHistogram
	times, longest := h.Quantiles(0.5)
	require.Zero(t, times[0]+longest)
	h.Observe(-5, 3)
	h.Observe(7, 0)
	times, longest = h.Quantiles(0.5, 1)
	require.Equal(t, []time.Duration{0, 0}, times)
	require.EqualValues(t, 7, longest)
	h.Observe(math.MaxInt64, 1)
	times, longest = h.Quantiles(0.5, 1)
	require.Equal(t, []time.Duration{0, math.MaxInt64}, times)
	require.EqualValues(t, math.MaxInt64, longest)
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Observe(1000, 64) }))
}
