package ratelimit

import (
	"sync/atomic"
	"time"
)

// Bucket lets events through at a limited rate: as many at once as pass in the time that it takes to fill, and one more every
// interval. All it remembers is when it will be full again. The threads of a guest's queue pairs share it: more pairs are no larger budget.
type Bucket struct {
	interval int64        // nanoseconds
	depth    int64        // nanoseconds that it takes to fill
	full     atomic.Int64 // time at which it is full again, or a time that has passed
}

// Fill makes b a full bucket for n events at once, and n a second.
func (b *Bucket) Fill(n int64) { b.FillBurst(n, n) }

// FillBurst makes b a full bucket for burst events at once, and n a second.
func (b *Bucket) FillBurst(n, burst int64) {
	b.interval = int64(time.Second) / n
	b.depth = b.interval * burst
}

// Slow makes b fill by times slower; it lets as many through at once as before.
func (b *Bucket) Slow(by int64) { b.interval *= by }

// Take reports whether another event may pass at now, and counts it if so. now is in nanoseconds.
func (b *Bucket) Take(now int64) bool {
	for {
		before := b.full.Load()
		full := max(before, now) + b.interval
		if full-now > b.depth {
			return false
		}
		if b.full.CompareAndSwap(before, full) {
			return true
		}
	}
}

// Used returns how many events have used up the bucket at now, and how many use up all of it. Anybody may call it.
func (b *Bucket) Used(now int64) (used, most int) {
	missing := max(b.full.Load()-now, 0)
	return int((missing + b.interval - 1) / b.interval), int(b.depth / b.interval)
}

// GiveBack undoes a Take.
func (b *Bucket) GiveBack(now int64) {
	for {
		before := b.full.Load()
		if before <= now || b.full.CompareAndSwap(before, before-b.interval) {
			return
		}
	}
}
