package l2switch

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// receiver is what a Port needs to give frames to its guest. It is the worker's.
type receiver struct {
	run  [netbackend.MaxFrames]netbackend.FrameMeta
	wake func(number int) // wakePort
}

// maxReceived is how many frames a turn gives to the guest before its own are looked at.
const maxReceived = 256

// receive gives frames that wait to the guest. It reports whether there are more, and room for them.
func (p *Port) receive(rx *netbackend.RXWriter) (more bool) {
	waiting := p.inbox.look()
	for total := 0; waiting > 0; {
		n := p.deliverTo(rx, min(waiting, netbackend.MaxFrames))
		if n == 0 {
			return false
		}
		left, waiters := p.inbox.release(n)
		each(&waiters, p.wake)
		waiting = left
		if total += n; total >= maxReceived {
			return waiting > 0
		}
	}
	return false
}

// deliverTo gives the first frames of the inbox, at most n, to the guest, and returns how many are done with.
func (p *Port) deliverTo(rx *netbackend.RXWriter, n int) int {
	if k := p.deliverRun(rx, n); k > 0 {
		return k
	}
	f := p.inbox.at(0)
	h := vnet.FromWords(f.first, f.rest)
	length := int(f.length)
	switch most := rx.Capacity(); {
	case !h.AcceptedBy(p.features):
		p.counters.NotAccepted++
		return 1
	case most > 0 && length > most:
		p.tooLong(&h)
		return 1
	}
	lease := rx.Reserve(netbackend.Request{Min: length, Max: length})
	if lease.Len() == 0 {
		return 0
	}
	p.inbox.scatter(lease.Frame(0), f)
	lease.Commit(&h, length)
	p.countReceived(1, uint64(length))
	return 1
}

// tooLong drops a frame that the guest's ring cannot hold. If it was one of many segments, the others are cut.
func (p *Port) tooLong(h *vnet.Header) {
	p.counters.TooLong++
	if h.GSOType != vnet.GSONone {
		p.takes.Store(p.takes.Load() &^ largeOffloads)
	}
}

func (p *Port) countReceived(frames, bytes uint64) {
	p.counters.Received += frames
	p.counters.ReceivedBytes += bytes
}

// deliverRun is the short way for what most frames are: in one slot, with buffers for each in one piece.
func (p *Port) deliverRun(rx *netbackend.RXWriter, most int) int {
	n, longest := 0, 0
	for ; n < most; n++ {
		f := p.inbox.at(n)
		if f.length > slotLen || !p.simple(f) {
			break
		}
		p.run[n] = netbackend.FrameMeta{First: f.first, Rest: f.rest, Len: f.length}
		longest = max(longest, int(f.length))
	}
	if n == 0 {
		return 0
	}
	lease := rx.Reserve(netbackend.Request{Max: longest, Frames: n, Shape: netbackend.OnePiece})
	places := lease.Pieces()
	guestmem.PrefetchWrite(places)
	bytes := uint64(0)
	for i := range places {
		f := p.inbox.at(i)
		guestmem.Put(&places[i], p.inbox.slot(f.slot)[:f.length])
		bytes += uint64(f.length)
	}
	lease.CommitRun(p.run[:len(places)])
	p.countReceived(uint64(len(places)), bytes)
	return len(places)
}

// simple reports whether the guest takes a frame with its offloads.
func (p *Port) simple(f *parcel) bool {
	h := vnet.FromWords(f.first, f.rest)
	return h.Plain() || h.AcceptedBy(p.features)
}

// scatter copies a frame to the pieces of memory that iov are, which have room for it.
func (b *inbox) scatter(iov []guestmem.Iovec, f *parcel) {
	slot, left := f.slot, int(f.length)
	var v guestmem.Iovec
	for left > 0 {
		part := b.slot(slot)[:min(slotLen, left)]
		left -= len(part)
		slot = b.next[slot]
		for len(part) > 0 {
			if v.Len == 0 {
				v, iov = iov[0], iov[1:]
				continue
			}
			n := guestmem.Put(&v, part)
			v.Base += uintptr(n)
			v.Len -= uint64(n)
			part = part[n:]
		}
	}
}
