package capture

// A reader costs processor time for each frame that is handed to it, many times what the frame costs the guest's thread. Where there are fewer processors than
// threads that are busy, it takes that time from the guest. So there is a bound to what is handed over: who sends more than it is captured in samples, which
// are so few that the guest does not feel them. The others are missed, and counted.

const (
	// paceWindow is for how long a bound is, in nanoseconds.
	paceWindow = int64(100e6)
	// manyFrames and manyBytes are what is handed over of a window at most: 0.6 million frames and 450 MB a second.
	manyFrames, manyBytes = 60_000, 45_000_000
	// fewFrames and fewBytes are what is handed over of a window after one in which there was more than that.
	fewFrames, fewBytes = 10_000, 8_000_000
)

// pace bounds what is handed over. It belongs to the writer.
type pace struct {
	many, few load
	until     int64 // the end of the window
	room      load  // what may be handed over in it still
	offered   load  // in it
}

// newPace returns the usual bounds.
func newPace() pace {
	return pace{many: load{manyFrames, manyBytes}, few: load{fewFrames, fewBytes}}
}

// load is how much there is.
type load struct{ frames, bytes int }

// begin begins a turn.
func (p *pace) begin(now int64) {
	if now < p.until {
		return
	}
	before := p.offered
	if now-p.until >= paceWindow { // of which there was nothing at all
		before = load{}
	}
	p.until, p.offered, p.room = now+paceWindow, load{}, p.many
	if before.frames > p.many.frames || before.bytes > p.many.bytes {
		p.room = p.few
	}
}

// isOver reports whether no more is handed over in this window.
func (p *pace) isOver() bool { return p.room.frames <= 0 || p.room.bytes <= 0 }

// offer takes note of frames that there are, of so many bytes as would be copied, whether they are handed over or not.
func (p *pace) offer(frames, bytes int) {
	p.offered.frames += frames
	p.offered.bytes += bytes
}

// take takes note of a frame that is handed over, of so many bytes.
func (p *pace) take(bytes int) {
	p.room.frames--
	p.room.bytes -= bytes
}
