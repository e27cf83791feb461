package measure

import (
	"math"
	"slices"
)

// MinRatios is how many ratios an interval needs: of fewer, even the least and the greatest bound nothing with 95 %.
const MinRatios = 6

// Estimate is what several ratios tell of the true one.
type Estimate struct {
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`  // between Low and High it lies with 95 %
	High  float64 `json:"high"` //
}

// Width is how far apart the ends of the interval are, as a share of the lower one. It is infinite if there is no interval.
func (e Estimate) Width() float64 {
	if e.Low <= 0 {
		return math.Inf(1)
	}
	return e.High/e.Low - 1
}

// Differs reports whether the interval excludes 1.
func (e Estimate) Differs() bool { return e.Low > 1 || e.High < 1 && e.High > 0 }

// EstimateRatio returns the ratio that ratios above zero tell, with its interval if there are MinRatios of them. It is
// Hodges and Lehmann's estimate with Wilcoxon's interval, of logarithms: a few ratios that are far off move it little,
// and nothing is assumed of how ratios are distributed but that too high is as frequent as too low.
func EstimateRatio(ratios []float64) Estimate {
	means := pairMeans(ratios)
	if len(means) == 0 {
		return Estimate{}
	}
	e := Estimate{Ratio: math.Exp(Summarize(means).Median)}
	if n := float64(len(ratios)); len(ratios) >= MinRatios {
		k := max(1, int(n*(n+1)/4-1.96*math.Sqrt(n*(n+1)*(2*n+1)/24)))
		e.Low, e.High = math.Exp(means[k-1]), math.Exp(means[len(means)-k])
	}
	return e
}

// pairMeans returns the means of the logarithms of each two ratios, and of each with itself, in order.
func pairMeans(ratios []float64) []float64 {
	means := make([]float64, 0, len(ratios)*(len(ratios)+1)/2)
	for i, a := range ratios {
		for _, b := range ratios[i:] {
			means = append(means, (math.Log(a)+math.Log(b))/2)
		}
	}
	slices.Sort(means)
	return means
}
