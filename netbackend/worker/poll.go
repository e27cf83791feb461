package worker

import "sync/atomic"

// poller decides how long a thread looks at its rings, with kicks switched off, before it sleeps. It is the thread's own.
//
// What it costs to be woken (a system call of the guest, an interrupt between processors, a wait for a processor) a ring
// that is looked at does not cost. But whoever looks keeps a processor from others. So the time is bounded, it is zero
// after gaps that it would not have bridged, and nobody looks while threads of whatever program wait for a processor.
type poller struct {
	bound          int64         // the longest time to look, in nanoseconds; 0 for never
	limit          *atomic.Int64 // what bound is to be, which others may change; nil if it stays
	oversubscribed func() bool   // whether somebody waits for a processor; it may cost some microseconds

	window int64 // how long to look at present
	last   int64 // when there was work
	slept  bool  // since then

	check   int64 // when to ask again
	backoff int64 // how long it holds that threads wait, 0 if none do
}

const (
	// pressureCheck is how long it holds that no thread waits for a processor, in nanoseconds.
	pressureCheck = 1_000_000
	// maxBackoff bounds how long it holds that one does. It doubles each time.
	maxBackoff = 64 * pressureCheck
)

// adopt takes over the bound that holds now.
func (p *poller) adopt() {
	if p.limit != nil {
		p.bound = p.limit.Load()
		p.window = min(p.window, p.bound)
	}
}

// worked notes that there was work. After a sleep it learns from how long that work had been missing.
func (p *poller) worked(now int64) {
	if p.slept {
		p.learn(now - p.last)
		p.slept = false
	}
	p.last = now
}

// learn adapts the window to a gap between two works that it did not bridge. The gap has the time of waking in it, which
// looking would have saved; hence twice the bound.
func (p *poller) learn(gap int64) {
	least := p.bound / 8
	switch {
	case gap <= 2*p.bound:
		p.window = min(max(2*p.window, least), p.bound)
	case p.window > least:
		p.window /= 2
	default:
		p.window = 0
	}
}

// shouldPoll reports whether to look on instead of sleeping.
func (p *poller) shouldPoll(now int64) bool {
	return p.window != 0 && now-p.last < p.window && !p.isOversubscribed(now)
}

// isOversubscribed asks now and then.
func (p *poller) isOversubscribed(now int64) bool {
	if now < p.check {
		return p.backoff != 0
	}
	if p.oversubscribed() {
		p.backoff = min(max(2*p.backoff, pressureCheck), maxBackoff)
		p.check = now + p.backoff
		return true
	}
	p.backoff = 0
	p.check = now + pressureCheck
	return false
}

// sleeps notes that the thread goes to sleep.
func (p *poller) sleeps() { p.slept = true }
