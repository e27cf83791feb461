package ratelimit

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABucketLetsSoManyThroughAtOnceAndASecond(t *testing.T) {
	const second = int64(1e9)
	spend := func(b *Bucket, now int64, tries int) (passed int) {
		for range tries {
			if b.Take(now) {
				passed++
			}
		}
		return passed
	}
	for _, n := range []int64{1, 3, 32, 256, 1000} {
		var b Bucket
		b.Fill(n)
		require.EqualValues(t, n, spend(&b, 5*second, 5000), "at once")
		require.EqualValues(t, n/2, spend(&b, 5*second+second/2, 5000), "half of it after half a second")
		require.EqualValues(t, n, spend(&b, 8*second, 5000), "all of it after a pause, and no more")
		require.Zero(t, spend(&b, 8*second, 1))

		total := 0
		for now := 20 * second; now < 30*second; now += second / 2000 {
			total += spend(&b, now, 1)
		}
		require.InDelta(t, 11*n, total, 1, "the rate is kept over ten seconds, after what was saved before")
	}
}

// Several queue pairs that flood at the same time have no more than one.
func TestABucketIsSharedByThreads(t *testing.T) {
	var b Bucket
	b.Fill(1000)
	var passed atomic.Int64
	var threads sync.WaitGroup
	for range 8 {
		threads.Go(func() {
			for range 1000 {
				if b.Take(5e9) {
					passed.Add(1)
				}
			}
		})
	}
	threads.Wait()
	require.EqualValues(t, 1000, passed.Load())
}
