package worker

// coalescer decides when both sides are left alone for a while, by a pause: no kicks are asked for, and the thread sleeps for
// some ten microseconds. Guest and thread have less work with a few frames at once than with each of them. A pause grows until it
// gathers enough; one that has gathered nothing was the last. It is the thread's own.
//
// There are three signs that more frames will come. The guest has just sent many bytes; or it has sent one frame soon after the
// other for a while and nothing has come back, so it does not wait for answers; or it has been given one frame soon after
// the other, and has answered none.
type coalescer struct {
	precise bool // the kernel can sleep for microseconds

	pause     int64     // how long the next pause is, in nanoseconds
	direction direction // in which frames have passed lately
	run       int       // turns in a row in which they passed that way only, each soon after the one before
	last      int64     // when the last of them began
}

const (
	// busyTurn is how many bytes from the guest make a turn a busy one. It is a frame of the largest size.
	busyTurn = 32 << 10
	// fullTurn, in bytes, and fullFrames are what a pause is to gather.
	fullTurn   = 256 << 10
	fullFrames = 16
	// minPause and maxPause are how long a pause may be, in nanoseconds.
	minPause = int64(20e3)
	maxPause = int64(160e3)
	// timerSlack is how much later a pause may end, in nanoseconds; the kernel's own default is longer than a pause.
	timerSlack = 5000

	// longRun is how many turns make a run of frames that nobody answers, and runGap, in nanoseconds, how soon the next one
	// must come.
	longRun = 16
	runGap  = int64(150e3)
)

// direction is that of the frames of a turn.
type direction uint8

const (
	noDirection direction = iota
	fromGuest             // and none for it
	toGuest               // and none from it
	bothDirections
)

func (t *turnStats) direction() direction {
	if t.unkicked {
		return t.weight()
	}
	given := t.given > 0 || t.noRoom
	switch {
	case t.taken > 0 && given:
		return bothDirections
	case t.taken > 0:
		return fromGuest
	case given:
		return toGuest
	}
	return noDirection
}

// weight is the direction of nearly all bytes. A socket has a stream's acknowledgements as frames of their own, and they are no answers.
func (t *turnStats) weight() direction {
	const most = 8
	switch {
	case t.taken == 0 && t.given == 0 && !t.noRoom:
		return noDirection
	case t.sent >= most*t.received && !t.noRoom:
		return fromGuest
	case t.received >= most*t.sent:
		return toGuest
	}
	return bothDirections
}

// sleepMode is how a thread sleeps.
type sleepMode uint8

const (
	block      sleepMode = iota // until there is something to do
	coalesce                    // for the time of a pause, or until an event: a guest that sends is left alone
	coalesceRX                  // for the time of a pause, whatever happens: a guest that receives is left alone
)

// after returns how the thread sleeps after the turn t.
func (c *coalescer) after(t *turnStats) sleepMode {
	c.count(t)
	gathered, enough, how := t.sent, uint64(fullTurn), coalesce
	switch {
	case t.sent >= busyTurn:
	case c.run < longRun:
		c.pause = minPause
		return block
	case c.direction == toGuest:
		gathered, enough, how = uint64(t.given), fullFrames, coalesceRX
	default:
		gathered, enough = uint64(t.taken), fullFrames
	}
	switch {
	case gathered < enough:
		c.pause = min(2*c.pause, maxPause)
	case gathered > 2*enough:
		c.pause = max(c.pause/2, minPause)
	}
	if !c.precise {
		return block
	}
	return how
}

// count follows runs.
func (c *coalescer) count(t *turnStats) {
	d := t.direction()
	if d != c.direction || d == noDirection || d == bothDirections || t.at-c.last > c.pause+runGap {
		c.run = 0
	}
	if c.direction = d; d == fromGuest || d == toGuest {
		c.run = min(c.run+1, longRun)
		c.last = t.at
	}
}
