package pace

import "time"

// Pacer says how long to wait before the next front end is served. The first few ends in a row cost nothing, since a good front end that is
// started anew is no storm. Its zero value is ready. One goroutine at a time may use it.
type Pacer struct {
	quick int       // ends in a row, each soon after its beginning
	last  time.Time // when the last one was
}

// What a Pacer goes by.
const (
	QuickEnd = time.Second // a front end that stays as long is not slowed down
	FreeEnds = 5           // so many ends in a row cost no pause
	MaxPause = time.Second // no pause is longer

	firstPause = 20 * time.Millisecond
)

// Ended counts an end, and returns how long to wait before the next front end is served. Each second in which none ends
// forgives one.
func (p *Pacer) Ended(began, now time.Time) time.Duration {
	if now.Sub(began) >= QuickEnd {
		*p = Pacer{}
		return 0
	}
	if !p.last.IsZero() {
		p.quick = max(0, p.quick-int(now.Sub(p.last)/time.Second))
	}
	p.quick++
	p.last = now
	if p.quick <= FreeEnds {
		return 0
	}
	return min(firstPause<<min(p.quick-FreeEnds-1, 10), MaxPause)
}

// Storm reports whether front ends come and go so that they are not told of one by one.
func (p *Pacer) Storm() bool { return p.quick >= FreeEnds }
