package netbackend

import (
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// maxSegments bounds the iovecs of one frame: what one system call of the kernel takes (UIO_MAXIOV), less what
	// a Port may put in front.
	maxSegments = 900
	// lookAhead is how many chains are fetched at once beyond those that are needed.
	lookAhead = 32
	// MinFrame is the length in bytes of the shortest Ethernet frame without its check sequence (IEEE 802.3). Shorter
	// ones are filled up with zeros, since some guests drop them.
	MinFrame = 60
)

// RXWriter writes frames into the guest's receive queue (virtio 1.2 section 5.1.6.4). A frame goes into one descriptor
// chain, or, with VIRTIO_NET_F_MRG_RXBUF, into as many as it needs.
//
// The way of a frame is Reserve, then writing into the memory that the Lease gives, then Lease.Commit. Frames
// become visible to the guest when the worker flushes the ring after the turn.
//
// An RXWriter belongs to the worker's thread. Its zero value is that of a stopped ring: it has no room.
type RXWriter struct {
	q         *virtqueue.Queue // nil: there is no room
	withheld  *virtqueue.Queue // what q is from the next turn on
	headerLen int
	direct    bool // headers have vnet.HeaderLen bytes, and nobody captures: the short way, without a question for either
	mergeable bool
	starved   bool
	stuck     bool // the queue has more chains, but cannot hold more of them at a time
	ahead     int  // bytes of all pending chains
	n         int  // iovecs in use
	iov       [maxSegments]guestmem.Iovec
	header    [vnet.HeaderLen]byte
	written   [MaxFrames]uint32
	frames    [MaxFrames][]guestmem.Iovec // of the lease
	left      int                         // frames of it that were not committed
	serial    uint32                      // of it
	capture   *capture.Hook               // is shown what is committed; nil for nobody

	// Strict is for tests: who commits a lease that has ended panics.
	Strict bool

	// Frames and Bytes count what was committed, without virtio-net headers.
	Frames, Bytes uint64
	// Returned counts buffers that were given back without a frame in them.
	Returned ReturnedBuffers
}

// ReturnedBuffers counts receive buffers that could not carry a frame, by the reason. Each is in one of these counters.
type ReturnedBuffers struct {
	ReceiveBuffersOutsideMemory  uint64 `counter:"receive_buffers_outside_memory" kind:"drop" help:"Receive buffers at an address that is not memory of the guest."`
	ReceiveBuffersBadChain       uint64 `counter:"receive_buffers_bad_chain" kind:"drop" help:"Receive buffers with a loop, too many descriptors or pieces, or a descriptor that there is not."`
	ReceiveBuffersWrongDirection uint64 `counter:"receive_buffers_wrong_direction" kind:"drop" help:"Receive buffers that are for the device to read."`
	ReceiveBuffersEmpty          uint64 `counter:"receive_buffers_empty" kind:"drop" help:"Receive buffers without a byte."`
	ReceiveBuffersTooSmall       uint64 `counter:"receive_buffers_too_small" kind:"drop" help:"Receive buffers too small for the frame that waited, alone or with those beside them."`
}

// count counts chain c.
func (r *ReturnedBuffers) count(c *virtqueue.Chain) {
	if len(c.Iov) > 0 {
		r.ReceiveBuffersTooSmall++
		return
	}
	switch c.Fault {
	case virtqueue.FaultMemory:
		r.ReceiveBuffersOutsideMemory++
	case virtqueue.FaultDirection:
		r.ReceiveBuffersWrongDirection++
	case virtqueue.FaultEmpty:
		r.ReceiveBuffersEmpty++
	default:
		r.ReceiveBuffersBadChain++
	}
}

// Attach points the writer at the receive ring of a running driver; nil takes it away. headerLen is the length of the
// virtio-net header in bytes as negotiated.
func (w *RXWriter) Attach(q *virtqueue.Queue, headerLen int, mergeable bool) {
	w.serial++
	w.q, w.headerLen, w.mergeable, w.starved, w.n, w.ahead = q, headerLen, mergeable, false, 0, 0
	w.withheld = nil
	w.choose()
	if q != nil {
		w.ahead = lengthOf(q.Pending())
	}
}

// SetCapture shows what is committed from now on to h, which may be nil.
func (w *RXWriter) SetCapture(h *capture.Hook) {
	w.capture = h
	w.choose()
}

// choose chooses the way that headers take.
func (w *RXWriter) choose() { w.direct = w.headerLen == vnet.HeaderLen && w.capture == nil }

// Recheck forgets buffers that the driver has taken back since they were fetched. The worker calls it before each turn.
//
// A driver that takes buffers back frees them, in any order. So in a turn in which that is noticed there is no room, not in
// those buffers that seem to be there still either.
func (w *RXWriter) Recheck() {
	w.serial++ // no lease outlives its turn
	if w.withheld != nil {
		w.q, w.withheld = w.withheld, nil
	}
	if w.q == nil {
		return
	}
	before := w.q.Withdrawals()
	w.q.Recheck()
	w.withhold(before)
}

// withhold leaves the ring alone for the rest of the turn if its driver was found to have taken buffers back since there
// were so many withdrawals.
func (w *RXWriter) withhold(before uint64) {
	if w.q.Withdrawals() != before {
		w.serial++
		w.q.Rewind() // so that they count as not looked at yet
		w.q, w.withheld = nil, w.q
		w.n, w.ahead = 0, 0
	}
}

// Starved tells, and forgets, that a frame found too little room since the last call.
func (w *RXWriter) Starved() bool {
	s := w.starved
	w.starved = false
	return s
}

// Starve asks for a turn when the guest posts buffers, as a request without success does.
func (w *RXWriter) Starve() { w.starved = true }

// Available tells whether the guest has posted buffers that were not used yet.
func (w *RXWriter) Available() bool {
	return w.q != nil && (len(w.q.Pending()) > 0 || w.q.HasAvail())
}

// Buffered returns how many bytes the next frame can have with the buffers that the guest has posted. It does not look
// further than most bytes need, but may know of more. It looks at lengths only: a malformed chain counts as an empty one.
func (w *RXWriter) Buffered(most int) int {
	if w.q == nil {
		return 0
	}
	if !w.mergeable {
		return w.oldest()
	}
	for n := 1; w.ahead < most+w.headerLen; n += lookAhead {
		if len(w.chains(n)) < n {
			break
		}
	}
	return max(0, w.ahead-w.headerLen)
}

// Capacity returns how many bytes the longest frame can have that the receive ring holds when the guest has posted all of
// its buffers, if they are like the oldest one that is posted now; 0 if none is.
func (w *RXWriter) Capacity() int {
	if w.q == nil {
		return 0
	}
	one := w.oldest()
	if one == 0 || !w.mergeable {
		return one
	}
	chain := &w.q.Pending()[0]
	chains := min(int(w.q.Size())/len(chain.Iov), virtqueue.MaxBatch)
	return max(one, chains*int(chain.Len)-w.headerLen)
}

// oldest returns how many bytes a frame can have in the oldest chain alone.
func (w *RXWriter) oldest() int {
	chains := w.chains(1)
	if len(chains) == 0 {
		return 0
	}
	return max(0, int(chains[0].Len)-w.headerLen)
}

// reserveFrame reserves a frame of any shape, and reports whether there was room.
func (w *RXWriter) reserveFrame(least, most int) bool {
	if w.reserveOne(most) || w.reserve(least, most) {
		return true
	}
	w.starved = true
	return false
}

// reserveRun reserves frames of OnePiece, as long as the oldest buffers begin with such a piece.
func (w *RXWriter) reserveRun(most, n int) int {
	chains := w.chains(n)
	for i := range chains[:min(n, len(chains))] {
		v, ok := w.place(&chains[i], most)
		if !ok {
			break
		}
		w.iov[i] = v
		w.n++
	}
	return w.n
}

// FrameMeta is what CommitRun must know of a frame that was written. It has the header as words, see [vnet.Header.Words].
type FrameMeta struct {
	First uint64
	Rest  uint32 // NumBuffers in it is not looked at
	Len   uint32 // in bytes, without the header
}

// commitRun commits frames of OnePiece.
func (w *RXWriter) commitRun(frames []FrameMeta) {
	chains := w.q.Pending()[:len(frames)]
	if !w.direct {
		w.writeHeaders(frames, chains)
	}
	written := w.written[:len(frames)]
	ahead, bytes, headerLen, direct := 0, uint64(0), uint32(w.headerLen), w.direct
	for i := range frames {
		f, c := &frames[i], &chains[i]
		written[i] = f.Len + headerLen
		ahead += int(c.Len)
		bytes += uint64(f.Len)
		if direct {
			putHeader(&c.Iov[0], f.First, f.Rest&0xffff|1<<16) // place made sure that it fits
		}
	}
	w.q.UseRun(written)
	w.ahead -= ahead
	w.Bytes += bytes
	w.Frames += uint64(len(frames))
	w.n = 0
}

// writeHeaders writes the headers of a run, each in the format that was negotiated.
func (w *RXWriter) writeHeaders(frames []FrameMeta, chains []virtqueue.Chain) {
	for i := range frames {
		h := vnet.FromWords(frames[i].First, frames[i].Rest)
		w.writeHeader(&h, chains[i:i+1], int(frames[i].Len)+w.headerLen)
	}
}

// reserveOne is the short way for what most frames are: shorter than the first buffer of the oldest chain. It reports false
// for everything else.
func (w *RXWriter) reserveOne(most int) bool {
	chains := w.q.Pending()
	if len(chains) == 0 {
		return false
	}
	v, ok := w.place(&chains[0], most)
	if ok {
		w.iov[0] = v
		w.n = 1
	}
	return ok
}

// place returns the place for a frame of most bytes in the first piece of c, if that is long enough.
func (w *RXWriter) place(c *virtqueue.Chain, most int) (v guestmem.Iovec, ok bool) {
	if len(c.Iov) == 0 || c.Iov[0].Len < uint64(w.headerLen+most) {
		return v, false
	}
	return guestmem.Iovec{Base: c.Iov[0].Base + uintptr(w.headerLen), Len: uint64(most)}, true
}

func (w *RXWriter) reserve(least, most int) bool {
	if w.mergeable {
		return w.gather(least, most)
	}
	return w.single(least, most)
}

// single reserves the oldest chain, if it holds least bytes.
func (w *RXWriter) single(least, most int) bool {
	for {
		chains := w.chains(1)
		if len(chains) == 0 {
			return false
		}
		if int64(chains[0].Len) >= int64(w.headerLen+least) && w.take(chains[0].Iov, w.headerLen, most) {
			return true
		}
		w.discard(1)
	}
}

// gather reserves as many of the oldest chains as most bytes need.
func (w *RXWriter) gather(least, most int) bool {
	room := 0 // bytes reserved
	for i := 0; room < most; i++ {
		chains := w.chains(i + 1)
		if w.q == nil {
			return false
		}
		if len(chains) <= i {
			if room >= least || !w.stuck {
				return room >= least
			}
			// So many buffers, and so small, that no frame will ever fit.
			w.discard(len(chains))
			i, room = -1, 0
			continue
		}
		skip := 0
		if i == 0 {
			skip = w.headerLen
		}
		if int64(chains[i].Len) <= int64(skip) {
			// A malformed chain ends what can be merged; nothing is gained by keeping what stands before it.
			w.discard(i + 1)
			i, room = -1, 0
			continue
		}
		if !w.take(chains[i].Iov, skip, most-room) {
			if room >= least {
				return true
			}
			// More pieces than a frame can have, and not enough room in them.
			w.discard(max(i, 1))
			i, room = -1, 0
			continue
		}
		room += int(chains[i].Len) - skip
	}
	return true
}

// reserveEach reserves up to want frames of OneBuffer. There is none if the oldest buffer is smaller than least.
func (w *RXWriter) reserveEach(want, least, most int) (n int) {
	chains := w.chains(want)
	for n < min(want, len(chains)) {
		c, start := &chains[n], w.n
		if int64(c.Len) < int64(w.headerLen+least) || !w.take(c.Iov, w.headerLen, most) {
			break
		}
		w.frames[n] = w.iov[start:w.n]
		n++
	}
	return n
}

// reserveFrames reserves up to want frames of any shape and of most bytes each. There is none if the oldest buffers are too
// small or malformed.
func (w *RXWriter) reserveFrames(want, most int) (n int) {
	first := 0
	for n < want {
		start := w.n
		end := w.frameAt(first, most)
		if w.q == nil {
			return 0
		}
		if end == first {
			break
		}
		w.frames[n] = w.iov[start:w.n]
		first = end
		n++
	}
	return n
}

// frameAt takes what a frame of most bytes needs from the chain first on, and returns where the next frame begins: at first if
// there is not as much.
func (w *RXWriter) frameAt(first, most int) (end int) {
	skip := w.headerLen
	for end = first; most > 0; end++ {
		chains := w.chains(end + 1)
		if len(chains) <= end || int64(chains[end].Len) <= int64(skip) || !w.take(chains[end].Iov, skip, most) {
			return first
		}
		most -= int(chains[end].Len) - skip
		skip = 0
		if most > 0 && !w.mergeable {
			return first
		}
	}
	return end
}

// chains returns the pending chains, after fetching more if there are fewer than n. There are none, and q is nil, if the
// driver takes its buffers back: what was reserved of them is void then.
func (w *RXWriter) chains(n int) []virtqueue.Chain {
	if p := w.q.Pending(); len(p) >= n {
		return p
	}
	before, withdrawals := len(w.q.Pending()), w.q.Withdrawals()
	more := w.q.HasAvail()
	p := w.q.Fetch(min(n+lookAhead, virtqueue.MaxBatch))
	if w.withhold(withdrawals); w.q == nil {
		return nil
	}
	if len(p) > before {
		w.ahead += lengthOf(p[before:])
	}
	w.stuck = more && len(p) < n
	return p
}

// discard returns the n oldest chains empty: they can carry nothing.
func (w *RXWriter) discard(n int) {
	w.n = 0
	chains := w.q.Pending()[:n]
	w.ahead -= lengthOf(chains)
	for i := range chains {
		w.Returned.count(&chains[i])
	}
	w.q.UseN(n)
}

// lengthOf returns the length of all chains in bytes.
func lengthOf(chains []virtqueue.Chain) int {
	n := 0
	for i := range chains {
		n += int(chains[i].Len)
	}
	return n
}

// take appends iov without its first skip bytes, and no more than max bytes of it. It tells whether all fitted.
func (w *RXWriter) take(iov []guestmem.Iovec, skip, max int) bool {
	for _, v := range iov {
		if uint64(skip) >= v.Len {
			skip -= int(v.Len)
			continue
		}
		if max <= 0 {
			return true
		}
		if w.n == len(w.iov) {
			return false
		}
		n := min(v.Len-uint64(skip), uint64(max))
		w.iov[w.n] = guestmem.Iovec{Base: v.Base + uintptr(skip), Len: n}
		w.n++
		skip = 0
		max -= int(n)
	}
	return true
}

// commit gives the guest the first n bytes behind the header of the oldest chains as one frame.
func (w *RXWriter) commit(h *vnet.Header, n int) {
	chains := w.q.Pending()
	total := n + w.headerLen
	w.n = 0
	w.Frames++
	w.Bytes += uint64(n)
	if whole := int(chains[0].Len); total <= whole {
		w.writeHeader(h, chains[:1], total)
		w.q.Use(uint32(total))
		w.ahead -= whole
		return
	}
	w.commitMany(h, chains, total)
}

// commitMany is commit for a frame of more than one chain, total bytes with its header.
func (w *RXWriter) commitMany(h *vnet.Header, chains []virtqueue.Chain, total int) {
	used := 0
	for left := total; left > 0; used++ {
		left -= int(chains[used].Len)
	}
	w.writeHeader(h, chains[:used], total)
	for range used {
		whole := int(w.q.Pending()[0].Len)
		part := min(total, whole)
		w.q.Use(uint32(part))
		w.ahead -= whole
		total -= part
	}
}

// writeHeader puts the virtio-net header at the start of a frame, in the format that was negotiated. The frame lies in chains, total bytes with
// its header.
func (w *RXWriter) writeHeader(h *vnet.Header, chains []virtqueue.Chain, total int) {
	first := &chains[0].Iov[0]
	if w.direct && first.Len >= vnet.HeaderLen {
		words, rest := h.Words()
		putHeader(first, words, rest&0xffff|uint32(len(chains))<<16)
		return
	}
	v := *h
	v.NumBuffers = uint16(len(chains))
	v.Encode(w.header[:w.headerLen])
	guestmem.CopyTo(chains[0].Iov, 0, w.header[:w.headerLen])
	if w.capture != nil {
		w.capture.ToGuest(&v, chains, total-w.headerLen)
	}
}

// putHeader writes what differs. Buffers are used again and again with the same header, and a cache line that is not
// written stays with both processors.
func putHeader(to *guestmem.Iovec, first uint64, rest uint32) {
	if to.Word64(0) != first {
		to.PutWord64(0, first)
	}
	if to.Word32(8) != rest {
		to.PutWord32(8, rest)
	}
}

// Write copies a whole frame of ours into the receive queue, and reports whether there was room; if not, nothing was
// written.
func (w *RXWriter) Write(h *vnet.Header, frame []byte) bool {
	w.serial++
	w.n = 0
	n := max(len(frame), MinFrame)
	if w.q == nil {
		w.starved = true
		return false
	}
	if chains := w.q.Pending(); len(chains) > 0 {
		if v, ok := w.place(&chains[0], n); ok {
			putPadded(v, frame)
			w.commit(h, n)
			return true
		}
	}
	if !w.reserve(len(frame), n) {
		w.starved = true
		return false
	}
	iov := w.iov[:w.n]
	guestmem.CopyTo(iov, 0, frame)
	w.commit(h, Pad(iov, len(frame)))
	return true
}

// putPadded copies frame to v, which may be longer, and fills up the rest.
func putPadded(v guestmem.Iovec, frame []byte) {
	n := guestmem.Put(&v, frame)
	if uint64(n) < v.Len {
		rest := guestmem.Iovec{Base: v.Base + uintptr(n), Len: v.Len - uint64(n)}
		guestmem.Put(&rest, zeros[:])
	}
}
