package measure_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/measure"
)

func TestSummaryOfRounds(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []float64
		want   measure.Summary
	}{
		{"no round", nil, measure.Summary{}},
		{"one round", []float64{3}, measure.Summary{Median: 3, Min: 3, Max: 3}},
		{"odd count: the one in the middle", []float64{9, 1, 2}, measure.Summary{Median: 2, Min: 1, Max: 9}},
		{"even count: the mean of two", []float64{4, 1, 9, 2}, measure.Summary{Median: 3, Min: 1, Max: 9}},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, measure.Summarize(test.values))
		})
	}
}

func TestSummaryLeavesTheOrderOfRoundsAlone(t *testing.T) {
	rounds := []float64{3, 1, 2}
	measure.Summarize(rounds)
	require.Equal(t, []float64{3, 1, 2}, rounds)
}

func TestRatiosPairTheSameRound(t *testing.T) {
	for _, test := range []struct {
		name         string
		values, base []float64
		want         []float64
	}{
		{"a slow machine cancels out", []float64{5, 2.5}, []float64{20, 10}, []float64{0.25, 0.25}},
		{"rounds that are missing", []float64{5}, []float64{10, 20}, []float64{0.5}},
		{"a base of zero", []float64{5, 6}, []float64{0, 3}, []float64{2}},
		{"nothing to compare with", []float64{5}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, measure.Ratios(test.values, test.base))
		})
	}
}

func TestFiguresOfASample(t *testing.T) {
	s := measure.Sample{Count: 5000, Sent: 8000, Elapsed: 4 * time.Second}
	require.InDelta(t, 1250, s.Rate(), 1e-9, "per second")
	require.InDelta(t, 0.0004, s.Per(2*time.Second), 1e-9, "processor seconds for each")
	require.InDelta(t, 0.375, s.Loss(), 1e-9, "of what was sent")
	require.InDelta(t, 0.75, s.Share(3*time.Second), 1e-9, "of one processor")
}

func TestASampleOfNothingHasNoFigures(t *testing.T) {
	var s measure.Sample
	require.Zero(t, s.Rate())
	require.Zero(t, s.Per(time.Second))
	require.Zero(t, s.Loss())
	require.Zero(t, s.Share(time.Second))
}

func TestUsageSinceAReading(t *testing.T) {
	before := measure.Usage{BackEnd: measure.Times{Running: 1, Waiting: 2}, Guest: measure.Times{Running: 3, Waiting: 4}, Host: 5}
	since := measure.Usage{BackEnd: measure.Times{Running: 10, Waiting: 20}, Guest: measure.Times{Running: 30, Waiting: 40}, Host: 50}
	after := measure.Usage{
		BackEnd: before.BackEnd.Add(since.BackEnd), Guest: before.Guest.Add(since.Guest), Host: before.Host + since.Host,
	}
	require.Equal(t, since, after.Sub(before))
}
