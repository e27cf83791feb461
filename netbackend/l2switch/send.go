package l2switch

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// batch is how many frames are dealt with at a time.
	batch = 128
	// maxCopies is how many copies of frames a batch makes at most; one frame to all fits.
	maxCopies = batch + 2*MaxPorts
	// maxTaken is how many slots a batch takes at most; one frame to all fits.
	maxTaken = (MaxPorts + 8) * maxSlots
)

// sender is what a Port needs to send frames of its guest. It is the worker's.
type sender struct {
	at          int64 // when the turn began
	behind      bool  // frames wait behind those of this turn that are not for the switch
	source      remembered
	destination remembered
	flood       budget
	patience

	head    [vnet.HeaderLen + headLen]byte
	frames  [batch]frame
	n       int // of frames
	copies  [maxCopies]frameCopy
	nCopies int
	targets [MaxPorts]target
	used    [MaxPorts]uint16 // numbers of targets with copies
	nUsed   int
	slots   [maxTaken]uint16
	nSlots  int // that copies need, and that were taken
	parcels [slots]parcel

	software
}

// frameCopy is a copy of a frame for one receiver.
type frameCopy struct {
	frame uint16 // in frames
	next  int16  // of the same receiver, -1 for none
	slots uint8
	room  bool // there are slots for it
}

// target is a receiver of a batch.
type target struct {
	first, last int16 // copies
	need        int   // slots
	taken       []uint16
	open        bool // the guest takes frames
	waiting
}

// send sends frames of the guest, and returns how many are done with. The rest stay in the ring; next is when they are looked
// at again though nothing happens, 0 for never.
func (p *Port) send(now int64, tx []virtqueue.Chain) (done int, next int64) {
	p.patience.resume(now)
	defer p.returnSlots() // of a batch that a fault in guest memory has ended
	for done < len(tx) {
		alone := p.gather(now, tx[done:])
		n, until := p.deliver(now, tx[done:])
		if done += n; until != 0 {
			if alone {
				p.undecide(&p.frames[p.n])
			}
			return done, until
		}
		if !alone {
			continue
		}
		if until = p.sendAlone(now, &tx[done]); until != 0 {
			return done, until
		}
		done++
	}
	return done, 0
}

// returnSlots gives slots back that nobody has filled.
func (p *Port) returnSlots() {
	for _, number := range p.used[:p.nUsed] {
		t := &p.targets[number]
		if len(t.taken) > 0 {
			p.ports[number].inbox.giveBack(p.number, t.taken)
		}
		t.taken, t.need = nil, 0
	}
	p.nUsed = 0
}

// gather fills p.frames with the first of tx, and finds their receivers. It ends before a frame that a receiver does not take
// as it is, and reports that there is one: it goes alone.
func (p *Port) gather(now int64, tx []virtqueue.Chain) (alone bool) {
	p.n, p.nCopies, p.nUsed, p.nSlots = 0, 0, 0, 0
	for i := range tx[:min(len(tx), batch)] {
		f := &p.frames[i]
		if !p.read(f, &tx[i]) {
			f.reason = badHeader
		} else {
			p.decide(f, now)
		}
		if f.reason == none {
			if !f.plain && !p.taken(f) {
				return true
			}
			if !p.address(f) {
				p.undecide(f)
				return false
			}
		}
		p.n++
	}
	return false
}

// undecide gives back what was taken for a frame that is decided on again.
func (p *Port) undecide(f *frame) {
	if f.flooded {
		p.flood.giveBack(1)
	}
}

// taken reports whether all receivers of a frame take it with its offloads.
func (p *Port) taken(f *frame) bool {
	if f.port != many {
		return f.header.AcceptedBy(p.ports[f.port].takes.Load())
	}
	for _, to := range p.ports {
		if p.reaches(f, to) && !f.header.AcceptedBy(to.takes.Load()) {
			return false
		}
	}
	return true
}

// address adds copies of the frame that is next for its receivers. It returns false, and adds none, if there is no room for
// them beside those of other frames.
func (p *Port) address(f *frame) bool {
	k := slotsOf(padded(f.length + tagLen))
	if f.port != many {
		if p.nCopies == maxCopies || p.nSlots+k > maxTaken {
			return false
		}
		p.addCopy(f.port, k)
		return true
	}
	if p.nCopies+len(p.ports) > maxCopies || p.nSlots+k*len(p.ports) > maxTaken {
		return false
	}
	for number, to := range p.ports {
		if p.reaches(f, to) {
			p.addCopy(number, k)
		}
	}
	return true
}

// addCopy adds a copy of the frame that is next, of so many slots, for a receiver.
func (p *Port) addCopy(number, slots int) {
	i := int16(p.nCopies)
	p.copies[i] = frameCopy{frame: uint16(p.n), next: -1, slots: uint8(slots)}
	p.nCopies++
	p.nSlots += slots
	t := &p.targets[number]
	if t.need == 0 {
		t.first = i
		p.used[p.nUsed] = uint16(number)
		p.nUsed++
	} else {
		p.copies[t.last].next = i
	}
	t.last = i
	t.need += slots
}

// deliver sends the frames that were gathered, and returns how many are done with. If that is not all, until is when the
// first of the rest is looked at again, at the latest.
func (p *Port) deliver(now int64, tx []virtqueue.Chain) (done int, until int64) {
	done = p.n
	p.nSlots = 0
	for _, number := range p.used[:p.nUsed] {
		if cut, at := p.reserve(now, int(number)); at != 0 {
			done, until = min(done, cut), netbackend.Earlier(until, at)
		}
	}
	for _, number := range p.used[:p.nUsed] {
		p.handOver(int(number), tx, done)
	}
	p.nUsed = 0
	p.countSent(done)
	if until != 0 {
		p.counters.Waits++
	}
	return done, until
}

// countSent counts the first frames of a batch. Those behind will be decided on again.
func (p *Port) countSent(done int) {
	for i := range p.frames[:done] {
		p.countFrame(&p.frames[i])
	}
	for i := range p.frames[done:p.n] {
		p.undecide(&p.frames[done+i])
	}
}

func (p *Port) countFrame(f *frame) {
	if f.reason != none {
		*p.counters.count(f.reason)++
		return
	}
	p.counters.Sent++
	p.counters.SentBytes += uint64(f.length)
	if f.port == many {
		p.counters.Flooded++
	}
}

// reserve takes slots for the copies for one receiver. If one has to wait, it returns the number of its frame, and when it is
// looked at again at the latest.
func (p *Port) reserve(now int64, number int) (cut int, until int64) {
	t, in := &p.targets[number], &p.ports[number].inbox
	need := t.need
	t.need = 0
	room := p.slots[p.nSlots : p.nSlots+need]
	p.nSlots += need
	n, open, released := in.take(demand{sender: p.number, need: need, waits: true}, room)
	t.taken, t.open = room[:n], open
	if n == need {
		t.waiting.end()
	}
	for i := t.first; i >= 0; i = p.copies[i].next {
		c := &p.copies[i]
		if c.room = n >= int(c.slots); c.room {
			n -= int(c.slots)
			continue
		}
		f := &p.frames[c.frame]
		switch {
		case f.port == many:
		case !open:
			f.reason = unreached
		default:
			if until = p.wait(&t.waiting, now, released, p.othersWait()); until != 0 {
				return int(c.frame), until
			}
			f.reason = fullInbox
		}
	}
	return 0, 0
}

// othersWait reports whether frames for others may be behind those for a receiver.
func (p *Port) othersWait() bool { return p.behind || p.nUsed > 1 || p.n == batch }

// handOver copies the frames for a receiver that are among the first of tx, and gives them to it.
func (p *Port) handOver(number int, tx []virtqueue.Chain, first int) {
	t, to := &p.targets[number], p.ports[number]
	n, at := 0, 0
	for i := t.first; i >= 0 && int(p.copies[i].frame) < first; i = p.copies[i].next {
		c := &p.copies[i]
		f := &p.frames[c.frame]
		if !c.room {
			p.lose(f, f.reason, t.open)
			continue
		}
		o := f.formFor(to)
		k := slotsOf(padded(o.length))
		p.fill(&to.inbox, t.taken[at:at+k], &o, &tx[c.frame])
		if !p.passes(f, to, &o, to.inbox.slot(t.taken[at])) {
			continue // the next one fills its slots
		}
		p.parcels[n] = p.parcel(&o.header, o.length, t.taken[at])
		at += k
		n++
	}
	if !p.give(to, p.parcels[:n], t, at) {
		p.miss(t, first)
	}
}

// passes reports whether a frame may get to a receiver, by its copy in b, and counts one that may not. The receiver gets the bytes by which a
// short frame is filled up, so they are looked at, too.
func (p *Port) passes(f *frame, to *Port, o *form, b []byte) bool {
	typ := b[o.n-2 : min(padded(o.length), len(b))]
	if p.binding != nil && p.binding.refuses(typ) {
		f.reason = spoofed
		return false
	}
	if f.vid != to.vlan {
		return true // it has a tag
	}
	g := to.guard.Load()
	if g == nil || !g.refuses(typ) {
		return true
	}
	f.reason = guarded
	return false
}

// miss notes that a receiver has stopped to take frames before it got any.
func (p *Port) miss(t *target, first int) {
	for i := t.first; i >= 0 && int(p.copies[i].frame) < first; i = p.copies[i].next {
		p.lose(&p.frames[p.copies[i].frame], unreached, false)
	}
}

// lose notes that a receiver does not get a frame, and why, if the frame is for nobody else. open says that the receiver takes
// frames.
func (p *Port) lose(f *frame, r reason, open bool) {
	switch {
	case f.port != many:
		f.reason = r
	case open:
		p.counters.CopiesLost++
	}
}

// give hands frames to a receiver, which fill the first slots that were taken. It reports whether the receiver takes frames.
func (p *Port) give(to *Port, frames []parcel, t *target, filled int) bool {
	taken := t.taken
	t.taken = nil // none are ours from here on
	open, wake := to.inbox.handOver(p.number, frames, taken[filled:])
	if wake {
		to.ring()
	}
	return open || len(frames) == 0
}

// parcel is a frame of length bytes as it waits in an inbox.
func (p *Port) parcel(h *vnet.Header, length int, slot uint16) parcel {
	first, rest := h.Words()
	return parcel{first: first, rest: rest, length: uint32(padded(length)), slot: slot, sender: uint16(p.number)}
}

// fill copies a frame in its form to slots.
func (p *Port) fill(in *inbox, to []uint16, o *form, c *virtqueue.Chain) {
	from := p.headerLen + o.skip
	b := in.slot(to[0])
	n := copy(b, o.head[:o.n])
	if len(to) == 1 {
		n += guestmem.CopyFrom(b[n:o.length], c.Iov, from)
		if n < netbackend.MinFrame {
			clear(b[n:netbackend.MinFrame])
		}
		return
	}
	p.fillMany(in, to, n, o.length, c.Iov, from)
}

// fillMany copies what is behind the first n bytes of a frame of length bytes to its slots. In iov it begins at from.
func (p *Port) fillMany(in *inbox, to []uint16, n, length int, iov []guestmem.Iovec, from int) {
	for i, slot := range to {
		if i > 0 {
			in.next[to[i-1]] = slot
		}
		b := in.slot(slot)
		b = b[n:min(slotLen, length-i*slotLen)]
		n = 0
		for len(iov) > 1 && uint64(from) >= iov[0].Len { // so that no piece is walked over again
			from -= int(iov[0].Len)
			iov = iov[1:]
		}
		guestmem.CopyFrom(b, iov, from)
		from += len(b)
	}
}

// software is what cuts frames and sums them up.
type software struct {
	cutter  *capture.Cutter
	segment func(data []byte, length int) // putSegment
	whole   []byte                        // a frame in its form
	cutting struct {
		to    *Port
		taken []uint16
		at, n int // slots and parcels that were filled
	}
}
