package worker

// moderation decides when the guest is interrupted for what it has sent, and how the thread waits for more work: it polls
// the rings, pauses, or sleeps until something happens. It works on figures and times alone. Rings, descriptors and the clock
// are the loop's. Times are in nanoseconds, 0 means none. Not safe for concurrent use: one per thread.
type moderation struct {
	irq       irq
	coalescer coalescer
	poller    poller
	polling   bool // rings are polled instead of asked for kicks
}

// turnStats is what a turn of the Port has done.
type turnStats struct {
	at             int64  // when it began
	taken, given   int    // frames from the guest, and for it
	sent, received uint64 // bytes by the guest
	noRoom         bool   // something came for the guest, whose receive ring had no room
	more           bool   // the next turn follows at once, or frames were left in the transmit ring
	interrupted    bool   // the guest was interrupted for received frames
	unkicked       bool   // the driver is in this process: frames come by a socket, and cannot be asked to wait

	// The driver wants no interrupts for its receive or transmit ring: it polls.
	rxPolled, txPolled bool
}

// sleepPlan is what follows a turn.
type sleepPlan struct {
	interrupt bool      // the guest is interrupted for what it has sent
	mode      sleepMode // how the thread sleeps
	pause     int64     // for how long, unless mode is block
}

// before begins a turn. It reports whether the guest is interrupted first, for what it has sent in turns before: what was
// left for the end of a pause, or was deferred for as long as it may be.
func (m *moderation) before(now int64) (interrupt bool) {
	m.polling = false
	return m.irq.before(now)
}

// after ends a turn.
func (m *moderation) after(t turnStats) sleepPlan {
	if t.taken > 0 || t.given > 0 {
		m.poller.worked(t.at)
	}
	mode := m.coalescer.after(&t)
	if t.more || t.driverPolls(mode) {
		mode = block
	}
	p := sleepPlan{interrupt: m.irq.after(&t, mode), mode: mode}
	if mode != block {
		p.pause = m.coalescer.pause
	}
	return p
}

// driverPolls reports that a pause of that mode would spare the driver nothing.
func (t *turnStats) driverPolls(mode sleepMode) bool {
	if mode == coalesceRX {
		return t.rxPolled
	}
	return t.txPolled
}

// idle reports whether the thread polls its rings now that there is nothing to do. running says that a ring is there to be
// polled.
func (m *moderation) idle(now int64, running bool) (polls bool) {
	m.poller.adopt()
	m.polling = running && m.poller.shouldPoll(now)
	return m.polling
}

// sleeps notes that the thread goes to sleep.
func (m *moderation) sleeps() { m.poller.sleeps() }

// irq decides when the guest is interrupted for what it has sent. A guest that sends its next frame looks after those that
// were taken, and one that is interrupted for a received frame looks after both rings, so this interrupt is seldom needed
// while either goes on.
type irq struct {
	lastRX     int64 // when the guest was interrupted last for having received much
	deferredAt int64 // since when an interrupt is deferred
}

// maxDelay bounds, in nanoseconds, how long an interrupt is deferred.
const maxDelay = 500_000

// overdue reports whether an interrupt was deferred for as long as it may be.
func (i *irq) overdue(now int64) bool { return i.deferredAt != 0 && now-i.deferredAt >= maxDelay }

// due returns when a deferred interrupt is due, 0 if there is none.
func (i *irq) due() int64 {
	if i.deferredAt == 0 {
		return 0
	}
	return i.deferredAt + maxDelay
}

func (i *irq) before(now int64) (interrupt bool) {
	if i.deferredAt != 0 && !i.overdue(now) {
		return false
	}
	i.deferredAt = 0
	return true
}

// after reports whether the guest is interrupted at once. At the end of a pause it is anyhow, if it still wants to be: so the
// interrupt waits for that if the guest has sent little, or was interrupted for received frames. Without a pause it waits as
// long as the guest receives much.
func (i *irq) after(t *turnStats, mode sleepMode) (interrupt bool) {
	little := t.sent < busyTurn
	if mode == coalesce && (t.interrupted || little) {
		return false
	}
	if t.interrupted && t.received >= busyTurn {
		i.lastRX = t.at
	}
	if !little || t.at-i.lastRX >= maxDelay {
		i.deferredAt = 0
		return true
	}
	if i.deferredAt == 0 {
		i.deferredAt = t.at
	}
	return false
}
