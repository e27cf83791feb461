package testframe

const (
	// maxStreams is how many streams are told apart at once. The one begun first goes for another one.
	maxStreams = 8
	// window is how many numbers back a frame that comes late is told from one that comes twice. Beyond that it counts as late.
	window = 4096
	// maxGap is how many frames in a row can be missing. A number further ahead begins anew.
	maxGap = 1 << 24
)

// Counts is what has become of frames.
type Counts struct {
	Tested     uint64 `counter:"tested" help:"Frames from the guest with a header of a source, as they were sent."`
	Missing    uint64 `counter:"missing" help:"Frames of a source that had not come when a later one did."`
	Late       uint64 `counter:"late" help:"Frames of a source that came after a later one: these were counted as missing before."`
	Duplicates uint64 `counter:"duplicates" help:"Frames of a source that came again."`
	Corrupt    uint64 `counter:"corrupt" help:"Frames of the type of those of a source whose header is damaged, or whose length is another one."`
}

// Checker checks the frames that come. The zero value has seen none. It belongs to one thread.
type Checker struct {
	Counts
	streams [maxStreams]stream
	last    int // the stream of the last frame
	used    int // streams
	oldest  int
}

// stream is what is known of the frames of one source.
type stream struct {
	id   uint32
	next uint64 // number of the next frame, if all is well
	seen [window / 64]uint64
}

// Take checks a frame of a length with a header, and reports whether it is as it was sent.
func (c *Checker) Take(h *Header, length int) bool {
	if !h.isWhole(length) {
		c.Corrupt++
		return false
	}
	c.Tested++
	id := uint32(h.Stream >> 32)
	if s := &c.streams[c.last]; c.used > 0 && s.id == id && s.next == h.Number {
		s.mark(h.Number)
		s.next++
		return true
	}
	c.takeOther(id, h.Number)
	return true
}

// takeOther takes a frame that is not the next of the last stream.
func (c *Checker) takeOther(id uint32, number uint64) {
	s := c.find(id)
	if s == nil {
		s = c.begin(id, number)
	}
	switch ahead := number - s.next; {
	case number >= s.next && ahead > maxGap:
		*s = stream{id: id, next: number}
		fallthrough
	case number >= s.next:
		s.skip(number)
		c.Missing += number - s.next
		s.mark(number)
		s.next = number + 1
	case s.next-number > window || !s.isMarked(number):
		c.Late++
		s.mark(number)
	default:
		c.Duplicates++
	}
}

// find returns the stream of an id, nil if there is none.
func (c *Checker) find(id uint32) *stream {
	for i := range c.streams[:c.used] {
		if c.streams[i].id == id {
			c.last = i
			return &c.streams[i]
		}
	}
	return nil
}

// begin begins a stream with the frame of a number: what came before that one was not for us.
func (c *Checker) begin(id uint32, number uint64) *stream {
	i := c.used
	if i < maxStreams {
		c.used++
	} else {
		i = c.oldest
		c.oldest = (c.oldest + 1) % maxStreams
	}
	c.last = i
	c.streams[i] = stream{id: id, next: number}
	return &c.streams[i]
}

func (s *stream) mark(number uint64) { s.seen[number%window/64] |= 1 << (number % 64) }

func (s *stream) isMarked(number uint64) bool { return s.seen[number%window/64]>>(number%64)&1 != 0 }

// skip takes note that numbers from next to number, which is not among them, are missing.
func (s *stream) skip(number uint64) {
	if number-s.next >= window {
		s.seen = [window / 64]uint64{}
		return
	}
	for n := s.next; n < number; n++ {
		s.seen[n%window/64] &^= 1 << (n % 64)
	}
}
