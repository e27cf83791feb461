package worker

// pacer decides when both sides are left alone for a while, by a pause: no kicks are asked for, and the thread sleeps for some
// ten microseconds. Guest and thread have less work with a few frames at once than with each of them. A pause grows until it
// gathers enough; one that has gathered nothing was the last. It is the thread's own.
//
// There are three signs that more frames will come. The guest has just sent many bytes; or it has sent one frame soon after the
// other for a while and nothing has come back, so it does not wait for answers; or it has been given one frame soon after
// the other, and has answered none.
type pacer struct {
	precise bool // the kernel can sleep for microseconds

	pause int64 // how long the next pause is, in nanoseconds
	way   way   // in which frames have passed lately
	run   int   // turns in a row in which they passed that way only, each soon after the one before
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
	at    int64  // when it began
	bytes uint64 // from the guest
	taken int    // frames from the guest
	given int    // frames for it
	full  bool   // something came for the guest, whose receive ring had no room
}

// way is that of the frames of a turn.
type way uint8

const (
	noWay     way = iota
	fromGuest     // and none for it
	toGuest       // and none from it
	bothWays
)

func (t *turn) way() way {
	given := t.given > 0 || t.full
	switch {
	case t.taken > 0 && given:
		return bothWays
	case t.taken > 0:
		return fromGuest
	case given:
		return toGuest
	}
	return noWay
}

// rest is how a thread sleeps.
type rest uint8

const (
	untilCalled rest = iota // until there is something to do
	forAPause               // for the time of a pause, unless something comes by a descriptor: a guest that sends is left alone
	deaf                    // for the time of a pause, whatever comes: a guest that receives is left alone
)

// after tells how the thread sleeps after the turn t.
func (p *pacer) after(t turn) rest {
	p.count(&t)
	gathered, enough, how := t.bytes, uint64(fullTurn), forAPause
	switch {
	case t.bytes >= busyTurn:
	case p.run < longRun:
		p.pause = minPause
		return untilCalled
	case p.way == toGuest:
		gathered, enough, how = uint64(t.given), fullFrames, deaf
	default:
		gathered, enough = uint64(t.taken), fullFrames
	}
	switch {
	case gathered < enough:
		p.pause = min(2*p.pause, maxPause)
	case gathered > 2*enough:
		p.pause = max(p.pause/2, minPause)
	}
	if !p.precise {
		return untilCalled
	}
	return how
}

// count follows runs.
func (p *pacer) count(t *turn) {
	w := t.way()
	if w != p.way || w == noWay || w == bothWays || t.at-p.last > p.pause+runGap {
		p.run = 0
	}
	if p.way = w; w == fromGuest || w == toGuest {
		p.run = min(p.run+1, longRun)
		p.last = t.at
	}
}
