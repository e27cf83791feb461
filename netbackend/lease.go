package netbackend

import (
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Request says what a Port is about to write. Lengths are in bytes, Ethernet header first, without the virtio-net header.
type Request struct {
	// A frame has room for at least Min and up to Max bytes. Min is at least 1.
	Min, Max int
	Frames   int // how many at most: 0 means 1, and MaxFrames is the limit
	Shape    Shape
}

// MaxFrames is how many frames a Request can ask for.
const MaxFrames = 64

// Shape says how a frame may lie in the guest's receive buffers.
type Shape uint8

const (
	// AnyShape lets a frame take as many buffers as it needs, or one if they cannot be merged.
	//
	// A request for one frame of any shape is the way to ask for room: buffers that can never hold Min bytes go back to the
	// guest empty, and if there is no room, there is a turn when the guest posts more. The frame may be shorter than Max when
	// the ring has no more. All other requests are for what is faster where there is plenty: an empty lease says nothing
	// about room then. Each of several frames of any shape has room for Max bytes. The last that is committed may be shorter.
	AnyShape Shape = iota
	// OneBuffer puts each frame into one buffer, with room for Max bytes as far as the buffer holds them.
	OneBuffer
	// OnePiece makes each frame one piece of memory of Max bytes. All are written first, then given to the guest by one
	// CommitRun: the processor waits for many buffers at a time.
	OnePiece
)

// Lease is guest memory for the frames of one Request. It ends with the next call of Reserve or Write, and with the turn. What
// was not committed by then stays for the frames that follow.
//
// A Commit of a lease that has ended, or has no frame left, is a mistake of the Port. It gives the guest nothing, as the memory
// belongs to other frames; with RXWriter.Strict it panics.
type Lease struct {
	w      *RXWriter
	n      int
	serial uint32
}

// Len returns for how many frames there is memory: 0 if the request found none.
func (l Lease) Len() int { return l.n }

// Frame returns the memory of frame i, unless the shape is OnePiece.
func (l Lease) Frame(i int) []guestmem.Iovec { return l.w.frames[:l.n][i] }

// Frames returns the memory of all frames, unless the shape is OnePiece.
func (l Lease) Frames() [][]guestmem.Iovec { return l.w.frames[:l.n] }

// Pieces returns the memory of all frames, if the shape is OnePiece.
func (l Lease) Pieces() []guestmem.Iovec { return l.w.iov[:l.n] }

// Commit gives the guest the first n bytes of the oldest frame that was not committed yet, with h in front of it; h.NumBuffers
// is set here. A short frame is filled up to MinFrame as far as it has room. n must not be more than was reserved, nor 0. It
// returns the length that the frame has.
func (l Lease) Commit(h *vnet.Header, n int) int {
	w := l.w
	if l.serial != w.serial || w.left == 0 {
		w.misused()
		return 0
	}
	if n < MinFrame {
		n = Pad(w.frames[l.n-w.left], n)
	}
	w.left--
	w.commit(h, n)
	return n
}

// CommitRun gives the guest the first frames of a lease of OnePiece, each in one buffer. Frames that are shorter than MinFrame
// are the caller's to fill up.
func (l Lease) CommitRun(frames []FrameMeta) {
	if len(frames) == 0 {
		return
	}
	w := l.w
	if l.serial != w.serial || w.left < len(frames) {
		w.misused()
		return
	}
	w.left = 0
	w.commitRun(frames)
}

// Reserve leases memory for what r asks for.
func (w *RXWriter) Reserve(r Request) Lease {
	w.serial++
	w.n = 0
	n := 0
	switch {
	case w.q == nil:
		w.starved = w.starved || r.Frames <= 1 && r.Shape == AnyShape
	case r.Shape == OnePiece:
		n = w.reserveRun(r.Max, r.Frames)
	case r.Shape == OneBuffer:
		n = w.reserveEach(r.Frames, r.Min, r.Max)
	case r.Frames > 1:
		n = w.reserveFrames(r.Frames, r.Max)
	case w.reserveFrame(r.Min, r.Max):
		w.frames[0] = w.iov[:w.n]
		n = 1
	}
	w.left = n
	return Lease{w: w, n: n, serial: w.serial}
}

// misused is called when a lease was committed that has ended.
func (w *RXWriter) misused() {
	if w.Strict {
		panic("netbackend: commit of a lease that has ended")
	}
}

// zeros fill up short frames.
var zeros [MinFrame]byte

// Pad fills up the frame iov of n bytes to the shortest length of Ethernet, as far as there is room, and returns the new
// length.
func Pad(iov []guestmem.Iovec, n int) int {
	if n >= MinFrame {
		return n
	}
	return n + guestmem.CopyTo(iov, n, zeros[n:])
}
