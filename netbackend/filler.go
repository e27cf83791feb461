package netbackend

import (
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

// Filler writes frames into the guest's receive queue (virtio 1.2 section 5.1.6.4). A frame goes into one descriptor
// chain, or, with VIRTIO_NET_F_MRG_RXBUF, into as many as it needs.
//
// The way of a frame is Reserve, then writing into what it gave, then Commit. What was reserved and not committed stays
// for the next frame. Frames become visible to the guest when the worker flushes the ring after the turn.
//
// A Filler belongs to the worker's thread. Its zero value is that of a stopped ring: it has no room.
type Filler struct {
	q         *virtqueue.Queue // nil: there is no room
	withheld  *virtqueue.Queue // what q is from the next turn on
	headerLen int
	mergeable bool
	starved   bool
	stuck     bool // the queue has more chains, but cannot hold more of them at a time
	ahead     int  // bytes of all pending chains
	n         int  // iovecs in use
	iov       [maxSegments]guestmem.Iovec
	header    [vnet.HeaderLen]byte
	written   [MaxRun]uint32

	// Frames and Bytes count what was committed, without virtio-net headers.
	Frames, Bytes uint64
	// Returned counts buffers that were given back without a frame in them.
	Returned ReturnedBuffers
}

// ReturnedBuffers counts receive buffers that could not carry a frame, by the reason. Each is in one of these counters.
type ReturnedBuffers struct {
	ReceiveBuffersOutsideMemory  uint64 // at an address that is not the guest's memory
	ReceiveBuffersBadChain       uint64 // a loop, too many descriptors or pieces, or a descriptor that there is not
	ReceiveBuffersWrongDirection uint64 // for the device to read
	ReceiveBuffersEmpty          uint64 // without a byte
	ReceiveBuffersTooSmall       uint64 // for the frame that waited, alone or with those beside them
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

// Attach points the filler at the receive ring of a running driver; nil takes it away. headerLen is the length of the
// virtio-net header in bytes as negotiated.
func (f *Filler) Attach(q *virtqueue.Queue, headerLen int, mergeable bool) {
	f.q, f.headerLen, f.mergeable, f.starved, f.n, f.ahead = q, headerLen, mergeable, false, 0, 0
	f.withheld = nil
	if q != nil {
		f.ahead = lengthOf(q.Pending())
	}
}

// Recheck forgets buffers that the driver has taken back since they were fetched. The worker calls it before each turn.
//
// A driver that takes buffers back frees them, in any order. So in a turn in which that is noticed there is no room, not in
// those buffers that seem to be there still either.
func (f *Filler) Recheck() {
	if f.withheld != nil {
		f.q, f.withheld = f.withheld, nil
	}
	if f.q == nil {
		return
	}
	before := f.q.Withdrawals()
	f.q.Recheck()
	f.withhold(before)
}

// withhold leaves the ring alone for the rest of the turn if its driver was found to have taken buffers back since there
// were so many withdrawals.
func (f *Filler) withhold(before uint64) {
	if f.q.Withdrawals() != before {
		f.q.Rewind() // so that they count as not looked at yet
		f.q, f.withheld = nil, f.q
		f.n, f.ahead = 0, 0
	}
}

// Starved tells, and forgets, that a frame found too little room since the last call.
func (f *Filler) Starved() bool {
	s := f.starved
	f.starved = false
	return s
}

// Starve asks for a turn when the guest posts buffers, as a Reserve without success does.
func (f *Filler) Starve() { f.starved = true }

// HasRoom tells whether the guest has posted buffers that were not used yet.
func (f *Filler) HasRoom() bool {
	return f.q != nil && (len(f.q.Pending()) > 0 || f.q.HasAvail())
}

// Ahead returns how many bytes the next frame can have with the buffers that the guest has posted. It does not look
// further than most bytes need, but may know of more. It looks at lengths only: a malformed chain counts as an empty one.
func (f *Filler) Ahead(most int) int {
	if f.q == nil {
		return 0
	}
	if !f.mergeable {
		return f.oldest()
	}
	for n := 1; f.ahead < most+f.headerLen; n += lookAhead {
		if len(f.chains(n)) < n {
			break
		}
	}
	return max(0, f.ahead-f.headerLen)
}

// Holds returns how many bytes the longest frame can have that the receive ring holds when the guest has posted all of
// its buffers, if they are like the oldest one that is posted now; 0 if none is.
func (f *Filler) Holds() int {
	if f.q == nil {
		return 0
	}
	one := f.oldest()
	if one == 0 || !f.mergeable {
		return one
	}
	chain := &f.q.Pending()[0]
	chains := min(int(f.q.Config().Size)/len(chain.Iov), virtqueue.MaxBatch)
	return max(one, chains*int(chain.Len)-f.headerLen)
}

// oldest returns how many bytes a frame can have in the oldest chain alone.
func (f *Filler) oldest() int {
	chains := f.chains(1)
	if len(chains) == 0 {
		return 0
	}
	return max(0, int(chains[0].Len)-f.headerLen)
}

// Reserve returns guest memory for a frame of up to most bytes, Ethernet header first, without the virtio-net header.
// It is shorter than most, but not than least, when the ring has no more, or when the chain is smaller and buffers
// cannot be merged; it is empty when there is no room for least bytes. Buffers that can never hold least bytes are
// returned to the guest empty. What is reserved stays so until Commit, and is valid until the next call of Reserve,
// Commit or Write. least must be at least 1.
func (f *Filler) Reserve(least, most int) []guestmem.Iovec {
	f.n = 0
	if f.q == nil || !f.reserveOne(most) && !f.reserve(least, most) {
		f.starved = true
		return nil
	}
	return f.iov[:f.n]
}

// ReserveRun returns guest memory for up to n frames of most bytes each, one piece for each frame, as long as the oldest
// buffers are such that Reserve would give one piece. All are written first and then given to the guest by one CommitRun.
// That is faster than one frame after the other, since the processor waits for many buffers at a time. An empty result
// says nothing about room: ask Reserve.
//
// n must be at most MaxRun. What is reserved is valid as long as after Reserve.
func (f *Filler) ReserveRun(most, n int) []guestmem.Iovec {
	f.n = 0
	if f.q == nil {
		return nil
	}
	chains := f.chains(n)
	for i := range chains[:min(n, len(chains))] {
		v, ok := f.place(&chains[i], most)
		if !ok {
			break
		}
		f.iov[i] = v
		f.n++
	}
	return f.iov[:f.n]
}

// MaxRun is how many frames ReserveRun has room for.
const MaxRun = 64

// Frame is what CommitRun must know of a frame that was written. It has the header as words, see [vnet.Header.Words].
type Frame struct {
	First uint64
	Rest  uint32 // NumBuffers in it is not looked at
	Len   uint32 // in bytes, without the header
}

// CommitRun gives the guest the first frames of a ReserveRun, each in one buffer.
func (f *Filler) CommitRun(frames []Frame) {
	if len(frames) == 0 {
		return
	}
	chains := f.q.Pending()[:len(frames)]
	written := f.written[:len(frames)]
	ahead, bytes, headerLen := 0, uint64(0), uint32(f.headerLen)
	for i := range frames {
		w, c := &frames[i], &chains[i]
		written[i] = w.Len + headerLen
		ahead += int(c.Len)
		bytes += uint64(w.Len)
		if headerLen != vnet.HeaderLen {
			h := vnet.FromWords(w.First, w.Rest)
			f.writeHeader(&h, c.Iov, 1)
			continue
		}
		putHeader(&c.Iov[0], w.First, w.Rest&0xffff|1<<16) // place made sure that it fits
	}
	f.q.UseRun(written)
	f.ahead -= ahead
	f.Bytes += bytes
	f.Frames += uint64(len(frames))
	f.n = 0
}

// reserveOne is the short way for what most frames are: shorter than the first buffer of the oldest chain. It reports false
// for everything else.
func (f *Filler) reserveOne(most int) bool {
	chains := f.q.Pending()
	if len(chains) == 0 {
		return false
	}
	v, ok := f.place(&chains[0], most)
	if ok {
		f.iov[0] = v
		f.n = 1
	}
	return ok
}

// place returns the place for a frame of most bytes in the first piece of c, if that is long enough.
func (f *Filler) place(c *virtqueue.Chain, most int) (v guestmem.Iovec, ok bool) {
	if len(c.Iov) == 0 || c.Iov[0].Len < uint64(f.headerLen+most) {
		return v, false
	}
	return guestmem.Iovec{Base: c.Iov[0].Base + uintptr(f.headerLen), Len: uint64(most)}, true
}

func (f *Filler) reserve(least, most int) bool {
	if f.mergeable {
		return f.gather(least, most)
	}
	return f.single(least, most)
}

// single reserves the oldest chain, if it holds least bytes.
func (f *Filler) single(least, most int) bool {
	for {
		chains := f.chains(1)
		if len(chains) == 0 {
			return false
		}
		if int64(chains[0].Len) >= int64(f.headerLen+least) && f.take(chains[0].Iov, f.headerLen, most) {
			return true
		}
		f.discard(1)
	}
}

// gather reserves as many of the oldest chains as most bytes need.
func (f *Filler) gather(least, most int) bool {
	room := 0 // bytes reserved
	for i := 0; room < most; i++ {
		chains := f.chains(i + 1)
		if f.q == nil {
			return false
		}
		if len(chains) <= i {
			if room >= least || !f.stuck {
				return room >= least
			}
			// So many buffers, and so small, that no frame will ever fit.
			f.discard(len(chains))
			i, room = -1, 0
			continue
		}
		skip := 0
		if i == 0 {
			skip = f.headerLen
		}
		if int64(chains[i].Len) <= int64(skip) {
			// A malformed chain ends what can be merged; nothing is gained by keeping what stands before it.
			f.discard(i + 1)
			i, room = -1, 0
			continue
		}
		if !f.take(chains[i].Iov, skip, most-room) {
			if room >= least {
				return true
			}
			// More pieces than a frame can have, and not enough room in them.
			f.discard(max(i, 1))
			i, room = -1, 0
			continue
		}
		room += int(chains[i].Len) - skip
	}
	return true
}

// ReserveEach gives memory for up to len(frames) frames, each in one of the oldest chains, and returns for how many. Frame
// i has room for at least least bytes, and for up to most of them as far as its chain holds them. It returns 0 if the
// oldest chain is smaller than least, or there is none, and asks for nothing then.
//
// Commit takes the frames in their order; the memory of those that are not committed yet stays valid in between.
func (f *Filler) ReserveEach(frames [][]guestmem.Iovec, least, most int) int {
	f.n = 0
	if f.q == nil {
		return 0
	}
	chains := f.chains(len(frames))
	n := 0
	for n < min(len(frames), len(chains)) {
		c, start := &chains[n], f.n
		if int64(c.Len) < int64(f.headerLen+least) || !f.take(c.Iov, f.headerLen, most) {
			break
		}
		frames[n] = f.iov[start:f.n]
		n++
	}
	return n
}

// ReserveFrames gives memory for up to len(frames) frames of most bytes each, in as many buffers as they need, or one each
// if they cannot be merged, and returns for how many: 0 if the oldest buffers are too small or malformed; it asks for nothing
// then. Commit takes the frames in their order; the memory of those that are not committed yet stays valid in between. The
// last that is committed may be shorter than most.
func (f *Filler) ReserveFrames(frames [][]guestmem.Iovec, most int) (n int) {
	f.n = 0
	if f.q == nil {
		return 0
	}
	first := 0
	for n < len(frames) {
		start := f.n
		end := f.frameAt(first, most)
		if f.q == nil {
			return 0
		}
		if end == first {
			break
		}
		frames[n] = f.iov[start:f.n]
		first = end
		n++
	}
	return n
}

// frameAt takes what a frame of most bytes needs from the chain first on, and returns where the next frame begins: at first if
// there is not as much.
func (f *Filler) frameAt(first, most int) (end int) {
	skip := f.headerLen
	for end = first; most > 0; end++ {
		chains := f.chains(end + 1)
		if len(chains) <= end || int64(chains[end].Len) <= int64(skip) || !f.take(chains[end].Iov, skip, most) {
			return first
		}
		most -= int(chains[end].Len) - skip
		skip = 0
		if most > 0 && !f.mergeable {
			return first
		}
	}
	return end
}

// chains returns the pending chains, after fetching more if there are fewer than n. There are none, and q is nil, if the
// driver takes its buffers back: what was reserved of them is void then.
func (f *Filler) chains(n int) []virtqueue.Chain {
	if p := f.q.Pending(); len(p) >= n {
		return p
	}
	before, withdrawals := len(f.q.Pending()), f.q.Withdrawals()
	more := f.q.HasAvail()
	p := f.q.Fetch(min(n+lookAhead, virtqueue.MaxBatch))
	if f.withhold(withdrawals); f.q == nil {
		return nil
	}
	if len(p) > before {
		f.ahead += lengthOf(p[before:])
	}
	f.stuck = more && len(p) < n
	return p
}

// discard returns the n oldest chains empty: they can carry nothing.
func (f *Filler) discard(n int) {
	f.n = 0
	chains := f.q.Pending()[:n]
	f.ahead -= lengthOf(chains)
	for i := range chains {
		f.Returned.count(&chains[i])
	}
	f.q.UseN(n)
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
func (f *Filler) take(iov []guestmem.Iovec, skip, max int) bool {
	for _, v := range iov {
		if uint64(skip) >= v.Len {
			skip -= int(v.Len)
			continue
		}
		if max <= 0 {
			return true
		}
		if f.n == len(f.iov) {
			return false
		}
		n := min(v.Len-uint64(skip), uint64(max))
		f.iov[f.n] = guestmem.Iovec{Base: v.Base + uintptr(skip), Len: n}
		f.n++
		skip = 0
		max -= int(n)
	}
	return true
}

// Commit gives the guest the first n bytes of what was reserved as one frame, with h in front of it; h.NumBuffers is
// set here. n must not be more than was reserved, nor 0.
func (f *Filler) Commit(h *vnet.Header, n int) {
	chains := f.q.Pending()
	total := n + f.headerLen
	f.n = 0
	f.Frames++
	f.Bytes += uint64(n)
	if whole := int(chains[0].Len); total <= whole {
		f.writeHeader(h, chains[0].Iov, 1)
		f.q.Use(uint32(total))
		f.ahead -= whole
		return
	}
	f.commitMany(h, chains, total)
}

// commitMany is Commit for a frame of more than one chain, total bytes with its header.
func (f *Filler) commitMany(h *vnet.Header, chains []virtqueue.Chain, total int) {
	used := 0
	for left := total; left > 0; used++ {
		left -= int(chains[used].Len)
	}
	f.writeHeader(h, chains[0].Iov, used)
	for range used {
		whole := int(f.q.Pending()[0].Len)
		part := min(total, whole)
		f.q.Use(uint32(part))
		f.ahead -= whole
		total -= part
	}
}

// writeHeader puts the virtio-net header at the start of the first chain, in the format that was negotiated.
func (f *Filler) writeHeader(h *vnet.Header, iov []guestmem.Iovec, buffers int) {
	if f.headerLen == vnet.HeaderLen && iov[0].Len >= vnet.HeaderLen {
		first, rest := h.Words()
		putHeader(&iov[0], first, rest&0xffff|uint32(buffers)<<16)
		return
	}
	v := *h
	v.NumBuffers = uint16(buffers)
	v.Encode(f.header[:f.headerLen])
	guestmem.CopyTo(iov, 0, f.header[:f.headerLen])
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

// zeros fill up short frames.
var zeros [MinFrame]byte

// Pad fills up the reserved frame iov of n bytes to the shortest length of Ethernet, as far as there is room, and
// returns the new length.
func (f *Filler) Pad(iov []guestmem.Iovec, n int) int {
	if n >= MinFrame {
		return n
	}
	return n + guestmem.CopyTo(iov, n, zeros[n:])
}

// Write copies a whole frame of ours into the receive queue. It tells whether there was room; if not, nothing was
// written.
func (f *Filler) Write(h *vnet.Header, frame []byte) bool {
	iov := f.Reserve(len(frame), max(len(frame), MinFrame))
	if len(iov) == 0 {
		return false
	}
	guestmem.CopyTo(iov, 0, frame)
	f.Commit(h, f.Pad(iov, len(frame)))
	return true
}
