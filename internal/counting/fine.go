package counting

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// fineBits of a duration are kept behind its first one: a bucket is no wider than a sixteenth of what is in it.
	fineBits    = 4
	fineBuckets = (64 - fineBits) << fineBits
)

// FineHistogram counts how long something took, so finely that quantiles can be told. One goroutine observes, and any number may read
// meanwhile: nobody waits, and nothing is allocated. The zero value has counted nothing.
type FineHistogram struct {
	most    atomic.Int64
	buckets [fineBuckets]atomic.Uint64
}

// Observe counts that something took so many nanoseconds, n times. Less than nothing is nothing.
func (h *FineHistogram) Observe(nanoseconds int64, n uint64) {
	nanoseconds = max(nanoseconds, 0)
	h.buckets[fineBucket(uint64(nanoseconds))].Add(n)
	if nanoseconds > h.most.Load() {
		h.most.Store(nanoseconds)
	}
}

// fineBucket returns the bucket of a value. Those below 1<<(fineBits+1) have one each.
func fineBucket(n uint64) int {
	shift := max(bits.Len64(n)-1-fineBits, 0)
	return shift<<fineBits + int(n>>shift)
}

// fineBound returns the largest value of a bucket.
func fineBound(bucket int) uint64 {
	shift := max(bucket>>fineBits-1, 0)
	return (uint64(bucket-shift<<fineBits)+1)<<shift - 1
}

// Quantiles returns how long the given parts of all took at most, such as 0.5 for the median, and the longest time of all. A time is
// that of the longest in its bucket. Without anything counted all are 0.
func (h *FineHistogram) Quantiles(parts ...float64) (times []time.Duration, longest time.Duration) {
	var all uint64
	var counts [fineBuckets]uint64
	for i := range h.buckets {
		counts[i] = h.buckets[i].Load()
		all += counts[i]
	}
	longest = time.Duration(h.most.Load())
	for _, part := range parts {
		times = append(times, quantile(&counts, part*float64(all), longest))
	}
	return times, longest
}

// quantile returns the bound of the bucket in which so many are counted.
func quantile(counts *[fineBuckets]uint64, want float64, longest time.Duration) time.Duration {
	sum := uint64(0)
	for i, n := range counts {
		if sum += n; n > 0 && float64(sum) >= want {
			return min(time.Duration(fineBound(i)), longest)
		}
	}
	return longest
}
