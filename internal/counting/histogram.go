package counting

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts how long something took, in buckets of which each has a bound four times that of the one before. Any number of goroutines may observe and read it at the
// same time: nobody waits, and nothing is allocated.
type Histogram struct {
	least   uint64 // the first bound, in nanoseconds
	sum     atomic.Uint64
	buckets []atomic.Uint64 // the last one is of what took longer than the last bound
}

// NewHistogram returns a histogram with so many bounds, of which the first is least and each other four times the one before.
func NewHistogram(least time.Duration, bounds int) *Histogram {
	return &Histogram{least: uint64(least), buckets: make([]atomic.Uint64, bounds+1)}
}

// Observe counts something that took so many nanoseconds. Less than nothing is nothing.
func (h *Histogram) Observe(nanoseconds int64) {
	n := uint64(max(nanoseconds, 0))
	h.buckets[h.bucket(n)].Add(1)
	h.sum.Add(n)
}

// bucket is the first whose bound is no less than n.
func (h *Histogram) bucket(n uint64) int {
	if n <= h.least {
		return 0
	}
	return min((bits.Len64((n-1)/h.least)+1)/2, len(h.buckets)-1)
}

// Bucket is how often something took no longer than a bound.
type Bucket struct {
	Bound time.Duration
	Count uint64 // those of smaller bounds among them
}

// Distribution is what a Histogram has counted.
type Distribution struct {
	Buckets []Bucket // by their bounds
	Count   uint64   // those above the last bound among them
	Sum     time.Duration
}

// Read returns what was counted. What is counted meanwhile may be in the sum and in no bucket, or the other way round.
func (h *Histogram) Read() (d Distribution) {
	last := len(h.buckets) - 1
	for i := range last {
		d.Count += h.buckets[i].Load()
		d.Buckets = append(d.Buckets, Bucket{time.Duration(h.least << (2 * i)), d.Count})
	}
	d.Count += h.buckets[last].Load()
	d.Sum = time.Duration(h.sum.Load())
	return d
}
