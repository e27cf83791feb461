package measure_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/measure"
)

func TestFewRatiosHaveNoInterval(t *testing.T) {
	require.Equal(t, measure.Estimate{}, measure.EstimateRatio(nil))
	e := measure.EstimateRatio([]float64{1.1, 1.1, 1.1, 1.1, 1.1})
	require.InDelta(t, 1.1, e.Ratio, 1e-9)
	require.True(t, math.IsInf(e.Width(), 1))
	require.False(t, e.Differs())
}

func TestIntervalOfSixRatiosIsTheWholeOfThem(t *testing.T) {
	e := measure.EstimateRatio([]float64{1.02, 0.98, 1.00, 1.01, 0.99, 1.03})
	require.InDelta(t, 0.98, e.Low, 1e-9)
	require.InDelta(t, 1.03, e.High, 1e-9)
	require.InDelta(t, 1.005, e.Ratio, 0.001)
	require.False(t, e.Differs())
}

func TestAFewRatiosFarOffMoveTheEstimateLittle(t *testing.T) {
	ratios := []float64{5, 0.1}
	for range 20 {
		ratios = append(ratios, 1.07, 1.08, 1.09)
	}
	e := measure.EstimateRatio(ratios)
	require.InDelta(t, 1.08, e.Ratio, 0.005)
	require.True(t, e.Differs())
	require.Less(t, e.Width(), 0.01)
}

// The interval of 95 % has the true ratio in it about so often.
func TestIntervalHoldsTheTrueRatio(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const trials, truth = 1000, 1.1
	held := 0
	for range trials {
		ratios := make([]float64, 20)
		for i := range ratios {
			ratios[i] = truth * math.Exp(0.2*random.NormFloat64())
		}
		if e := measure.EstimateRatio(ratios); e.Low <= truth && truth <= e.High {
			held++
		}
	}
	require.InDelta(t, 0.95, float64(held)/trials, 0.02)
}
