package netem

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

// chance is what is random of a direction of a queue pair. It is the thread's own.
type chance struct {
	source rand.PCG
}

// seeded is a chance that begins at a seed. stream tells those of one seed apart.
func seeded(seed, stream uint64) chance {
	return chance{source: *rand.NewPCG(seed, stream)}
}

// hits reports whether what happens to a share of frames happens now.
func (c *chance) hits(s Share) bool {
	if s == 0 {
		return false
	}
	n, _ := bits.Mul64(c.source.Uint64(), uint64(whole))
	return n < uint64(s)
}

// below returns a number from 0 to n-1, each as likely. n is not 0.
func (c *chance) below(n uint64) uint64 {
	high, _ := bits.Mul64(c.source.Uint64(), n)
	return high
}

// around returns a time from -most to most, in nanoseconds, each as likely.
func (c *chance) around(most time.Duration) int64 {
	if most == 0 {
		return 0
	}
	return int64(c.below(2*uint64(most)+1)) - int64(most)
}

// lossModel is a model of loss as it is computed: that of Gilbert and Elliott, of which the others are special cases.
type lossModel struct {
	random Share // loss without a state, if toBad is 0
	toBad  Share
	toGood Share
	bad    Share
	good   Share
}

// model returns how the direction loses frames.
func (d *Direction) model() lossModel {
	switch g := d.Gilbert; {
	case g != GilbertElliott{}:
		return lossModel{toBad: g.ToBad, toGood: g.ToGood, bad: g.Bad, good: g.Good}
	case d.LossBurst > 1:
		// The bad state loses all. It lasts for LossBurst frames on average, and is entered so often that the share of frames in it is Loss.
		toGood := whole / Share(d.LossBurst)
		toBad := uint64(toGood) * uint64(d.Loss) / uint64(whole-d.Loss)
		return lossModel{toBad: Share(min(max(toBad, 1), uint64(whole))), toGood: toGood, bad: whole}
	}
	return lossModel{random: d.Loss}
}

// loses reports whether the next frame is lost. bad is the state, which it changes.
func (m *lossModel) loses(c *chance, bad *bool) bool {
	if m.toBad == 0 {
		return c.hits(m.random)
	}
	if *bad {
		*bad = !c.hits(m.toGood)
	} else {
		*bad = c.hits(m.toBad)
	}
	if *bad {
		return c.hits(m.bad)
	}
	return c.hits(m.good)
}
