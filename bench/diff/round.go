package diff

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
)

const (
	pairsOfRound = 6
	maxSteal     = 0.02 // of the processors' time in a pair
	maxUneven    = 0.20 // difference between the busy shares of its samples
)

// pair is a sample of each state, one right behind the other.
type pair struct {
	Old   float64 `json:"old_ns"`
	New   float64 `json:"new_ns"`
	Steal float64 `json:"steal"`         // share of the processors' time
	Busy  float64 `json:"busy_old"`      // the same, of what was used, by whomever
	Busy2 float64 `json:"busy_new"`      //
	Out   string  `json:"out,omitempty"` // why it was thrown out
}

// judge throws the pair out if the machine was not the same for both.
func (p *pair) judge() {
	switch {
	case p.Steal > maxSteal:
		p.Out = fmt.Sprintf("%.0f %% stolen", 100*p.Steal)
	case math.Abs(p.Busy-p.Busy2) > maxUneven:
		p.Out = fmt.Sprintf("processors busy %.0f and %.0f %%", 100*p.Busy, 100*p.Busy2)
	}
}

// takePair takes a sample of each, that of the new state first if newFirst is set.
func takePair(ctx context.Context, old, new sampler, length time.Duration, newFirst bool) (p pair, err error) {
	first, second := old, new
	if newFirst {
		first, second = new, old
	}
	begin, errBegin := machine.ReadCPUTicks()
	a, errA := first.sample(ctx, length)
	middle, errMiddle := machine.ReadCPUTicks()
	b, errB := second.sample(ctx, length)
	end, errEnd := machine.ReadCPUTicks()
	p.Steal = end.Sub(begin).StealShare()
	p.Busy, p.Busy2 = middle.Sub(begin).BusyShare(), end.Sub(middle).BusyShare()
	p.Old, p.New = a, b
	if newFirst {
		p.Old, p.New = b, a
		p.Busy, p.Busy2 = p.Busy2, p.Busy
	}
	p.judge()
	return p, errors.Join(errBegin, errA, errMiddle, errB, errEnd)
}

// takeRound starts both states anew, that of the new one first if newFirst is set, and takes the pairs of a round.
func takeRound(ctx context.Context, r row, old, new *build, length time.Duration, newFirst bool) (pairs []pair, err error) {
	first, second := old, new
	if newFirst {
		first, second = new, old
	}
	a, err := r.open(ctx, first)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", first.tree.Name, err)
	}
	defer func() { err = errors.Join(err, a.close()) }()
	b, err := r.open(ctx, second)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", second.tree.Name, err)
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if newFirst {
		return takePairs(ctx, b, a, length)
	}
	return takePairs(ctx, a, b, length)
}

// takePairs takes the pairs of a round, in turns the one and the other state first.
func takePairs(ctx context.Context, old, new sampler, length time.Duration) (pairs []pair, err error) {
	for i := range pairsOfRound {
		p, err := takePair(ctx, old, new, length, i%2 == 1)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// ratioOf is the ratio of a round: the median of its pairs, none if fewer than half of them count.
func ratioOf(pairs []pair) (ratio float64, ok bool) {
	var ratios []float64
	for _, p := range pairs {
		if p.Out == "" {
			ratios = append(ratios, p.New/p.Old)
		}
	}
	if 2*len(ratios) < len(pairs) || len(ratios) == 0 {
		return 0, false
	}
	return measure.Summarize(ratios).Median, true
}
