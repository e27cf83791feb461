package vhostuser

import "time"

// pacer slows down front ends that come and go: QEMU alone, if it asks for what it cannot get, connects more than a thousand
// times a second. The first few ends in a row cost nothing, since a good front end that is started anew is no storm.
type pacer struct {
	quick int       // ends in a row, each soon after its beginning
	last  time.Time // when the last one was
}

const (
	quickEnd   = time.Second // a front end that stays longer is not slowed down
	freeEnds   = 5           // so many cost no pause
	firstPause = 20 * time.Millisecond
	maxPause   = time.Second
)

// ended counts an end, and returns how long to wait before the next front end is served. Each second in which none ends
// forgives one.
func (p *pacer) ended(began, now time.Time) time.Duration {
	if now.Sub(began) >= quickEnd {
		*p = pacer{}
		return 0
	}
	if !p.last.IsZero() {
		p.quick = max(0, p.quick-int(now.Sub(p.last)/time.Second))
	}
	p.quick++
	p.last = now
	if p.quick <= freeEnds {
		return 0
	}
	return min(firstPause<<min(p.quick-freeEnds-1, 10), maxPause)
}

// storm reports whether front ends come and go so that they are not told of one by one.
func (p *pacer) storm() bool { return p.quick >= freeEnds }
