package worker

// pacer decides when a guest that sends is left alone for a while, by a pause: no kicks are asked for, and the thread sleeps
// for some ten microseconds. Both sides have less work with a few frames at once than with each of them. A pause grows
// until it gathers enough; one that has gathered nothing was the last. It is the thread's own.
//
// There are two signs that a guest is sending more. It has just sent many bytes; or it has sent one frame soon after the
// other for a while and nothing has come back, so it does not wait for answers.
type pacer struct {
	precise bool // the kernel can sleep for microseconds

	pause int64 // how long the next pause is, in nanoseconds
	run   int   // turns in a row that had frames of the guest and none for it, each soon after the one before
	last  int64 // when the last of them began
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

// turn is what a pause depends on.
type turn struct {
	at     int64  // when it began
	bytes  uint64 // from the guest
	frames int    // from the guest
	given  bool   // there were frames for the guest
}

// pauses tells whether a pause follows the turn t.
func (p *pacer) pauses(t turn) bool {
	p.count(t)
	gathered, full := t.bytes, uint64(fullTurn)
	if t.bytes < busyTurn {
		if p.run < longRun {
			p.pause = minPause
			return false
		}
		gathered, full = uint64(t.frames), fullFrames
	}
	switch {
	case gathered < full:
		p.pause = min(2*p.pause, maxPause)
	case gathered > 2*full:
		p.pause = max(p.pause/2, minPause)
	}
	return p.precise
}

// count follows runs.
func (p *pacer) count(t turn) {
	if t.frames == 0 || t.given || t.at-p.last > p.pause+runGap {
		p.run = 0
	}
	if t.frames > 0 && !t.given {
		p.run = min(p.run+1, longRun)
		p.last = t.at
	}
}
