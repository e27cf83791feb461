package udp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

const (
	// maxQueued is how many frames with datagrams wait at most until they are sent, which is before the turn is over.
	maxQueued = 128
	// maxSegments bounds the datagrams of one frame. Drivers make up to 128; who makes thousands wants to make work.
	maxSegments = 1024
	// maxKernelSegments is how many datagrams the kernel cuts one message into (UDP_MAX_SEGMENTS; twice as many since
	// Linux 6.9).
	maxKernelSegments = 64
	// maxMessage is the most payload that several datagrams can carry that are sent as one.
	maxMessage = netpkt.MaxIPv4Payload - netpkt.UDPLen
)

// txBatch holds the guest's datagrams of one turn until they are sent, each flow's in their order. Nothing is copied: they
// are in the guest's buffers, which are ours until the turn is over.
type txBatch struct {
	n     int
	items [maxQueued]txItem
	nFlow int
	flows [maxQueued]*shard.Flow // those that have some
}

// txItem is a frame with a datagram, or with several of a guest that lets them be cut.
type txItem struct {
	iov     []guestmem.Iovec
	offset  int // of the payload in iov
	n       int // its length in bytes
	segment int // length of each datagram but the last, at least n if there is one
	manner  hostsock.Manner
	next    uint16 // the flow's next one, counted from 1; 0 for none
	first   [1]byte
	known   bool // it is one datagram, whose first byte leaves as it is in first, whatever the guest writes meanwhile
}

// cursor is where sending has got to: at a byte of the payload of a queued frame, which is counted from 1; 0 is the end.
type cursor struct {
	item   uint16
	offset int
}

// mmsg is a message of one sendmmsg call: a datagram, or several of equal length (the last one may be shorter).
type mmsg struct {
	end       cursor // behind it
	datagrams int
	bytes     int
}

// enqueue puts n bytes of payload into the batch that is sent.
func (e *Engine) enqueue(t *shard.Turn, f *shard.Flow, k *shard.Packet, n int) {
	m := t.MannerOf(k)
	q := e.room(t, f)
	q.iov, q.offset, q.n, q.segment, q.manner, q.known = k.Chain.Iov, k.L4Offset+netpkt.UDPLen, n, n, m, false
	if k.Segment != 0 {
		q.segment = k.Segment
	}
}

// room makes room for one more frame of f in the batch, and returns it. The caller sets all of it; next stays 0.
func (e *Engine) room(t *shard.Turn, f *shard.Flow) *txItem {
	o := &e.txBatch
	if o.n == len(o.items) {
		e.SendQueued(t)
	}
	q := &o.items[o.n]
	q.next = 0
	o.n++
	i := uint16(o.n)
	udp := e.of(f)
	if udp.first == 0 {
		udp.first = i
		o.flows[o.nFlow] = f
		o.nFlow++
	} else {
		o.items[udp.last-1].next = i
	}
	udp.last = i
	return q
}

// SendQueued sends all that is in the batch.
func (e *Engine) SendQueued(t *shard.Turn) {
	o, to := &e.txBatch, t.To
	for _, f := range o.flows[:o.nFlow] {
		t.To = f.Host
		e.sendFlow(t, f)
	}
	t.To = to
	clear(o.flows[:o.nFlow])
	o.n, o.nFlow = 0, 0
}

// sendFlow sends what a flow has in the batch: runs of datagrams of equal length as one message each, if the kernel can
// cut them, and as many messages as possible by one call.
func (e *Engine) sendFlow(t *shard.Turn, f *shard.Flow) {
	udp := e.of(f)
	s, one, common, w := &f.Sender, &udp.noGSO, e.commonSocket(f), hostsock.Way{}
	if common != nil {
		common.Mu.Lock()
		defer common.Mu.Unlock()
		s, one, w = &common.Sender, &common.NoGSO, e.wayBack(f)
	}
	at := cursor{item: udp.first}
	udp.first, udp.last = 0, 0
	e.sources.KeepUp(f)
	patience := shard.ErrorBurst
	for at.item != 0 && f.State == shard.StateActive {
		n := e.build(t, f, s, *one, at, &w)
		sent, errno := e.batch.Send(f.FD, n)
		t.Counters.UDPSends++
		for _, l := range e.mmsgs[:sent] {
			f.FromGuest += uint64(l.bytes)
			t.Counters.UDPSent += uint64(l.datagrams)
			at = l.end
		}
		if sent > 0 || lostInSilence(errno) {
			e.prolong(t, f)
		}
		if errno != 0 && !e.sendAgain(t, f, one, common, &w, errno, &patience) {
			t.Counters.UDPRefused += uint64(e.mmsgs[0].datagrams)
			t.KeepDrop(&t.Counters.UDPRefused, &f.Key, false, errno.Error)
			at = e.mmsgs[0].end
		}
	}
}

// lostInSilence tells whether a datagram that could not be sent is one of which the guest does not learn.
func lostInSilence(errno unix.Errno) bool {
	return errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.ENOMEM
}

// sendAgain deals with an error of sending the first message, and tells whether it is to be tried again.
func (e *Engine) sendAgain(t *shard.Turn, f *shard.Flow, one *bool, common *listeners.SharedSocket, w *hostsock.Way, errno unix.Errno, patience *int) bool {
	if e.sources.Recovers(t, f, errno) {
		*one = false
		return true
	}
	if f.State != shard.StateActive {
		return false
	}
	if l := &e.mmsgs[0]; l.datagrams > 1 {
		switch errno {
		case unix.EINVAL, unix.EIO, unix.EMSGSIZE:
			*one = true // the route's MTU, or its device, is against it: the datagrams go one by one
			return true
		}
	}
	if isWayClosed(w, errno) {
		w.Forget()
		*one = false
		return true
	}
	if lostInSilence(errno) {
		return false
	}
	if errno == unix.EFAULT {
		t.Worker.Fault(errno)
		return false
	}
	// It may tell of earlier datagrams; then this one was not sent.
	earlier, told := e.readErrors(t, f.FD, f, common)
	*patience--
	if !told && earlier == 0 {
		e.icmp.SendUndelivered(t, &f.Key, errno, netpkt.UDPLen, e.header(f))
	}
	return !told && earlier > 0 && *patience > 0
}

// build makes messages of what f has in the batch from at on, and returns their number: all that travel in the same
// manner, as far as one call can take them.
func (e *Engine) build(t *shard.Turn, f *shard.Flow, s *hostsock.Sender, noGSO bool, at cursor, w *hostsock.Way) (n int) {
	m := e.txBatch.items[at.item-1].manner
	s.Set(f.FD, m)
	most := 1
	if e.cfg.Segments && !noGSO {
		most = maxKernelSegments
	}
	pieces := t.Pieces[:0]
	for n < hostsock.BatchSize && at.item != 0 && e.txBatch.items[at.item-1].manner == m {
		start := len(pieces)
		l, size, ok := e.mmsg(&pieces, at, most, m)
		if !ok {
			break
		}
		e.mmsgs[n] = l
		e.address(f, n, pieces[start:], w, s.V6)
		if l.datagrams > 1 {
			e.batch.CutAt(n, size)
		}
		at = l.end
		n++
	}
	return n
}

// address makes message i one of pieces for f's peer, by the way w if there is one.
func (e *Engine) address(f *shard.Flow, i int, pieces []guestmem.Iovec, w *hostsock.Way, v6 bool) {
	e.batch.Set(i, pieces)
	if f.Bits&shard.SharedSocket == 0 {
		return
	}
	udp := e.of(f)
	e.batch.To(i, &udp.peer)
	if udp.way != 0 {
		e.batch.By(i, w, v6)
	}
}

// mmsg appends to pieces the longest message of up to most datagrams that can be made from at on, each of size bytes but
// the last; !ok if there is no room for it, which is never so if pieces is empty.
func (e *Engine) mmsg(pieces *[]guestmem.Iovec, at cursor, most int, m hostsock.Manner) (l mmsg, size int, ok bool) {
	size = e.next(at)
	limit := size * most
	if size > 0 {
		limit = min(limit, max(size, maxMessage/size*size))
	}
	l.end = at
	for {
		q := &e.txBatch.items[l.end.item-1]
		take := e.next(l.end)
		if take == size {
			take = min(q.n-l.end.offset, limit-l.bytes)
		}
		var longer []guestmem.Iovec
		var ok bool
		if q.known {
			longer, ok = q.knownPieces(*pieces, l.end.offset, take)
		} else {
			longer, ok = shard.AppendRange(*pieces, q.iov, q.offset+l.end.offset, take)
		}
		if !ok {
			return l, size, l.datagrams > 0
		}
		*pieces = longer
		l.bytes += take
		l.datagrams += max(1, (take+size-1)/max(size, 1))
		e.advance(&l.end, take)
		if l.bytes == limit || l.bytes%size != 0 || l.end.item == 0 || !e.coalesces(l.end, size, m) {
			return l, size, true
		}
	}
}

// knownPieces appends n bytes of a datagram whose first byte is known to pieces; !ok if there is no room for them.
func (q *txItem) knownPieces(pieces []guestmem.Iovec, at, n int) (_ []guestmem.Iovec, ok bool) {
	if len(pieces) == cap(pieces) {
		return pieces, false
	}
	return shard.AppendRange(append(pieces, guestmem.PieceOf(q.first[:])), q.iov, q.offset+1, n-1)
}

// next is the length of the datagram at a place.
func (e *Engine) next(at cursor) int {
	q := &e.txBatch.items[at.item-1]
	return min(q.segment, q.n-at.offset)
}

// coalesces tells whether the datagram at a place can follow others of size bytes.
func (e *Engine) coalesces(at cursor, size int, m hostsock.Manner) bool {
	n := e.next(at)
	return n > 0 && n <= size && e.txBatch.items[at.item-1].manner == m
}

// advance moves a place n bytes on.
func (e *Engine) advance(at *cursor, n int) {
	q := &e.txBatch.items[at.item-1]
	if at.offset += n; at.offset >= q.n {
		*at = cursor{item: q.next}
	}
}

// commonSocket returns the socket that f shares with other flows, nil if it has its own.
func (e *Engine) commonSocket(f *shard.Flow) *listeners.SharedSocket {
	if f.Bits&shard.SharedSocket == 0 {
		return nil
	}
	udp := e.of(f)
	if udp.via == viaMapping {
		return &e.guest.mappings.find(f.Key.GuestSide()).SharedSocket
	}
	return e.listeners.OfForward(udp.via - 1).Shared
}
