package counting_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
)

func TestAHistogramCountsEachTimeBelowTheFirstBoundThatIsNotShorter(t *testing.T) {
	for _, c := range []struct {
		took  time.Duration
		below []uint64 // counts of 10, 40 and 160 µs
	}{
		{-time.Second, []uint64{1, 1, 1}},
		{0, []uint64{1, 1, 1}},
		{10 * time.Microsecond, []uint64{1, 1, 1}},
		{10*time.Microsecond + 1, []uint64{0, 1, 1}},
		{40 * time.Microsecond, []uint64{0, 1, 1}},
		{40*time.Microsecond + 1, []uint64{0, 0, 1}},
		{160 * time.Microsecond, []uint64{0, 0, 1}},
		{160*time.Microsecond + 1, []uint64{0, 0, 0}},
		{math.MaxInt64, []uint64{0, 0, 0}},
	} {
		h := counting.NewHistogram(10*time.Microsecond, 3)
		h.Observe(int64(c.took))
		d := h.Read()
		var bounds []time.Duration
		var below []uint64
		for _, b := range d.Buckets {
			bounds, below = append(bounds, b.Bound), append(below, b.Count)
		}
		require.Equal(t, []time.Duration{10e3, 40e3, 160e3}, bounds)
		require.Equal(t, c.below, below, c.took)
		require.EqualValues(t, 1, d.Count, c.took)
		require.Equal(t, max(c.took, 0), d.Sum)
	}
}

func TestAHistogramIsForManyAtATimeAndAllocatesNothing(t *testing.T) {
	const each, writers = 1000, 4
	h := counting.NewHistogram(1, 10)
	var done sync.WaitGroup
	for range writers {
		done.Go(func() {
			for n := range int64(each) {
				h.Observe(n)
			}
		})
	}
	for range 100 {
		h.Read()
	}
	done.Wait()
	d := h.Read()
	require.EqualValues(t, writers*each, d.Count)
	require.EqualValues(t, writers*each*(each-1)/2, d.Sum)
	require.EqualValues(t, writers*17, d.Buckets[2].Count, "0 to 16")
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Observe(77) }))
}
