package l2switch

import (
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// maxHeaders is more than the headers of a segment have behind where its checksum begins: the longest of TCP.
const maxHeaders = 60

// sendAlone sends a frame that a receiver does not take as it is: the one that gather has ended with. If it has to wait, until
// is when it is looked at again at the latest.
func (p *Port) sendAlone(now int64, c *virtqueue.Chain) (until int64) {
	f := &p.frames[p.n]
	if f.port != many {
		if until = p.put(now, f, p.ports[f.port], c); until != 0 {
			p.counters.Waits++
			return until
		}
	} else {
		for _, to := range p.ports {
			if p.reaches(f, to) {
				p.put(now, f, to, c)
			}
		}
	}
	p.countFrame(f)
	return 0
}

// put gives a frame to a receiver in the form that it takes. What is lost is noted: for a frame to one receiver it is the reason.
func (p *Port) put(now int64, f *frame, to *Port, c *virtqueue.Chain) (until int64) {
	o := f.formFor(to)
	if longest := int(to.longest.Load()); longest > 0 {
		o.shorten(f, longest, p.tcpHeaderLen(&o, c))
	}
	takes := to.takes.Load()
	whole := o.header.AcceptedBy(takes)
	need, ok := slotsOf(padded(o.length)), true
	if cuts := !whole && o.header.GSOType != vnet.GSONone; cuts {
		need, ok = slotsOfSegments(&o)
	}
	if !ok {
		p.lose(f, uncut, true)
		return 0
	}
	t := &p.targets[to.number]
	n, open, released := to.inbox.take(demand{sender: p.number, need: need, whole: true, waits: f.port != many}, p.slots[:])
	switch {
	case !open:
		p.lose(f, unreached, false)
		return 0
	case n < need:
		if f.port != many {
			if until = p.wait(&t.waiting, now, released, true); until != 0 {
				return until
			}
		}
		p.lose(f, fullInbox, true)
		return 0
	}
	t.waiting.end()
	t.taken = p.slots[:need]
	p.used[0], p.nUsed = uint16(to.number), 1 // for returnSlots
	p.copyWhole(&o, c)
	if !p.passes(f, to, &o, p.whole[:padded(o.length)]) {
		p.returnSlots()
		return 0
	}
	given := false
	if whole {
		given = p.putFrame(to, t, &o.header, p.whole)
	} else {
		given = p.putRight(f, to, t, &o)
	}
	if p.nUsed = 0; !given {
		p.lose(f, unreached, false)
	}
	return 0
}

// tcpHeaderLen reads the length of a TCP header from a frame, if it has one. That can be a lie, which costs the frame.
func (p *Port) tcpHeaderLen(o *form, c *virtqueue.Chain) int {
	const dataOffset = 12
	var b [1]byte
	guestmem.CopyFrom(b[:], c.Iov, p.headerLen+int(o.header.CsumStart)-(o.n-o.skip)+dataOffset)
	return int(b[0]>>4) * 4
}

// shorten makes segments of TCP such that their frames have longest bytes at most, whatever the guest thinks of the way. A segment whose checksum
// the guest has filled in stays as it is.
func (o *form) shorten(f *frame, longest, header int) {
	const checksumAt, least = 16, 64
	h := &o.header
	size := longest - int(h.CsumStart) - header
	if h.Flags&vnet.FlagNeedsCSum == 0 || h.CsumOffset != checksumAt || o.length <= longest || size < least {
		return
	}
	switch kind := h.GSOType &^ vnet.GSOECN; {
	case kind == vnet.GSOTCPv4 || kind == vnet.GSOTCPv6:
		h.GSOSize = uint16(min(int(h.GSOSize), size))
	case kind == vnet.GSONone && f.typ == vnet.EtherTypeIPv4:
		h.GSOType, h.GSOSize = vnet.GSOTCPv4, uint16(size)
	case kind == vnet.GSONone && f.typ == vnet.EtherTypeIPv6:
		h.GSOType, h.GSOSize = vnet.GSOTCPv6, uint16(size)
	}
}

// slotsOfSegments returns how many slots the segments of a frame take at most, and whether an inbox has as many for one sender.
func slotsOfSegments(o *form) (n int, ok bool) {
	size := int(o.header.GSOSize)
	segments := (o.length + size - 1) / size
	n = segments * slotsOf(padded(min(o.length, int(o.header.CsumStart)+maxHeaders+size)))
	return n, n <= slots/2
}

// copyWhole copies a frame in its form to p.whole.
func (p *Port) copyWhole(o *form, c *virtqueue.Chain) {
	if p.whole == nil {
		p.whole = make([]byte, 0, maxFrame+tagLen)
	}
	p.whole = p.whole[:o.length]
	n := copy(p.whole, o.head[:o.n])
	guestmem.CopyFrom(p.whole[n:], c.Iov, p.headerLen+o.skip)
	clear(p.whole[o.length:padded(o.length)])
}

// putRight does for a receiver what the guest has left undone in the frame in p.whole: it fills in the checksum, and cuts. It
// reports whether the receiver takes frames.
func (p *Port) putRight(f *frame, to *Port, t *target, o *form) bool {
	captured := capture.Frame{Header: o.header, Data: p.whole, Length: o.length}
	if o.header.GSOType == vnet.GSONone {
		captured.Complete()
		p.counters.Summed++
		return p.putFrame(to, t, &vnet.Header{}, p.whole)
	}
	p.cutting.to, p.cutting.taken, p.cutting.at, p.cutting.n = to, t.taken, 0, 0
	if p.cutter.Cut(&captured, p.segment) {
		p.counters.Cut++
	} else {
		p.lose(f, uncut, true)
	}
	return p.give(to, p.parcels[:p.cutting.n], t, p.cutting.at)
}

// putFrame gives a receiver one frame. It reports whether the receiver takes frames.
func (p *Port) putFrame(to *Port, t *target, h *vnet.Header, b []byte) bool {
	p.parcels[0] = p.parcel(h, len(b), t.taken[0])
	return p.give(to, p.parcels[:1], t, to.inbox.fill(t.taken, b))
}

// putSegment adds a segment for the receiver for which a frame is cut. It is called with whole segments only.
func (p *Port) putSegment(data []byte, length int) {
	to, k := &p.cutting, slotsOf(padded(length))
	if len(data) != length || to.at+k > len(to.taken) {
		return
	}
	p.parcels[to.n] = p.parcel(&vnet.Header{}, length, to.taken[to.at])
	to.to.inbox.fill(to.taken[to.at:], data)
	to.at += k
	to.n++
}

// fill copies a frame to the first slots, and returns how many those are.
func (b *inbox) fill(to []uint16, frame []byte) (n int) {
	k := slotsOf(padded(len(frame)))
	for i, slot := range to[:k] {
		if i > 0 {
			b.next[to[i-1]] = slot
		}
		s := b.slot(slot)
		done := copy(s, frame)
		frame = frame[done:]
		if i == 0 && done < slotLen {
			clear(s[done:max(done, padded(done))])
		}
	}
	return k
}
