package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
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
	// maxDatagram is the most payload that a UDP datagram can carry, and maxMessage what several can that are sent as one.
	maxDatagram = maxIPPayload - udpLen
	maxMessage  = maxIPv4Payload - udpLen
)

// outbox holds the guest's datagrams of one turn until they are sent, each flow's in their order. Nothing is copied: they
// are in the guest's buffers, which are ours until the turn is over.
type outbox struct {
	n     int
	items [maxQueued]queued
	nFlow int
	flows [maxQueued]*flow // those that have some
}

// queued is a frame with a datagram, or with several of a guest that lets them be cut.
type queued struct {
	iov     []guestmem.Iovec
	offset  int // of the payload in iov
	n       int // its length in bytes
	segment int // length of each datagram but the last, at least n if there is one
	manner  manner
	next    uint16 // the flow's next one, counted from 1; 0 for none
}

// place is where sending has got to: at a byte of the payload of a queued frame, which is counted from 1; 0 is the end.
type place struct {
	item   uint16
	offset int
}

// letter is a message of one sendmmsg call: a datagram, or several of equal length (the last one may be shorter).
type letter struct {
	end       place // behind it
	datagrams int
	bytes     int
}

// enqueue puts n bytes of payload into the outbox.
func (p *Port) enqueue(f *flow, k *packet, n int) {
	o := &p.outbox
	if o.n == len(o.items) {
		p.sendQueued()
	}
	segment := n
	if k.segment != 0 {
		segment = k.segment
	}
	o.items[o.n] = queued{iov: k.chain.Iov, offset: k.l4Offset + udpLen, n: n, segment: segment, manner: p.mannerOf(k)}
	o.n++
	i := uint16(o.n)
	if f.udp.first == 0 {
		f.udp.first = i
		o.flows[o.nFlow] = f
		o.nFlow++
	} else {
		o.items[f.udp.last-1].next = i
	}
	f.udp.last = i
}

// usualHops is the time to live that most systems send with. A smaller one is meant: somebody traces a route.
const usualHops = 64

func (p *Port) mannerOf(k *packet) manner {
	m := manner{route: mayFragment, hops: p.hopsLeft(k.hops, &k.dst), tos: k.tos}
	if k.whole {
		m.route = dontFragment
	}
	return m
}

// hopsLeft returns the time to live with which a packet goes on that came with hops; 0 for as many as the host gives.
func (p *Port) hopsLeft(hops uint8, dst *ipaddr.Addr) uint8 {
	if hops >= usualHops || p.nets.ours(dst) {
		return 0
	}
	return hops - 1
}

// sendQueued sends all that is in the outbox.
func (p *Port) sendQueued() {
	o, to := &p.outbox, p.to
	for _, f := range o.flows[:o.nFlow] {
		p.to = f.host
		p.sendFlow(f)
	}
	p.to = to
	clear(o.flows[:o.nFlow])
	o.n, o.nFlow = 0, 0
}

// sendFlow sends what a flow has in the outbox: runs of datagrams of equal length as one message each, if the kernel can
// cut them, and as many messages as possible by one call.
func (p *Port) sendFlow(f *flow) {
	s, common, w := &f.udp.sender, p.commonSocket(f), hostsock.Way{}
	if common != nil {
		common.mu.Lock()
		defer common.mu.Unlock()
		s, w = &common.sender, p.wayBack(f)
	}
	at := place{item: f.udp.first}
	f.udp.first, f.udp.last = 0, 0
	p.keepUp(f)
	patience := errorBurst
	for at.item != 0 && f.state == stateUDP {
		n := p.compose(f, s, at, &w)
		sent, errno := p.batch.Send(f.fd, n)
		p.counters.UDPSends++
		for _, l := range p.letters[:sent] {
			f.fromGuest += uint64(l.bytes)
			p.counters.UDPSent += uint64(l.datagrams)
			at = l.end
		}
		if sent > 0 || lostInSilence(errno) {
			p.prolong(f)
		}
		if errno != 0 && !p.sendAgain(f, s, common, &w, errno, &patience) {
			p.counters.UDPRefused += uint64(p.letters[0].datagrams)
			at = p.letters[0].end
		}
	}
}

// lostInSilence tells whether a datagram that could not be sent is one of which the guest does not learn.
func lostInSilence(errno unix.Errno) bool {
	return errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.ENOMEM
}

// sendAgain deals with an error of sending the first letter, and tells whether it is to be tried again.
func (p *Port) sendAgain(f *flow, s *udpSender, common *sharedSocket, w *hostsock.Way, errno unix.Errno, patience *int) bool {
	if p.recovers(f, errno) {
		s.oneEach = false
		return true
	}
	if f.state != stateUDP {
		return false
	}
	if l := &p.letters[0]; l.datagrams > 1 {
		switch errno {
		case unix.EINVAL, unix.EIO, unix.EMSGSIZE:
			s.oneEach = true // the route's MTU, or its device, is against it: the datagrams go one by one
			return true
		}
	}
	if isWayClosed(w, errno) {
		w.Forget()
		s.oneEach = false
		return true
	}
	if lostInSilence(errno) {
		return false
	}
	if errno == unix.EFAULT {
		p.worker.Fault(errno)
		return false
	}
	// It may tell of earlier datagrams; then this one was not sent.
	earlier, told := p.readErrors(f.fd, f, common)
	*patience--
	if !told && earlier == 0 {
		p.undelivered(&f.key, errno, udpLen, p.header(f))
	}
	return !told && earlier > 0 && *patience > 0
}

// compose makes letters of what f has in the outbox from at on, and returns their number: all that travel in the same
// manner, as far as one call can take them.
func (p *Port) compose(f *flow, s *udpSender, at place, w *hostsock.Way) (n int) {
	m := p.outbox.items[at.item-1].manner
	s.set(f.fd, m)
	most := 1
	if p.cfg.UDPSegment && !s.oneEach {
		most = maxKernelSegments
	}
	pieces := p.pieces[:0]
	for n < hostsock.BatchSize && at.item != 0 && p.outbox.items[at.item-1].manner == m {
		start := len(pieces)
		l, size, ok := p.letter(&pieces, at, most, m)
		if !ok {
			break
		}
		p.letters[n] = l
		p.address(f, n, pieces[start:], w, s.v6)
		if l.datagrams > 1 {
			p.batch.CutAt(n, size)
		}
		at = l.end
		n++
	}
	return n
}

// address makes message i one of pieces for f's peer, by the way w if there is one.
func (p *Port) address(f *flow, i int, pieces []guestmem.Iovec, w *hostsock.Way, v6 bool) {
	p.batch.Set(i, pieces)
	if f.bits&shared == 0 {
		return
	}
	p.batch.To(i, &f.udp.peer)
	if f.udp.way != 0 {
		p.batch.By(i, w, v6)
	}
}

// letter appends to pieces the longest letter of up to most datagrams that can be made from at on, each of size bytes but
// the last; !ok if there is no room for it, which is never so if pieces is empty.
func (p *Port) letter(pieces *[]guestmem.Iovec, at place, most int, m manner) (l letter, size int, ok bool) {
	size = p.next(at)
	limit := size * most
	if size > 0 {
		limit = min(limit, max(size, maxMessage/size*size))
	}
	l.end = at
	for {
		q := &p.outbox.items[l.end.item-1]
		take := p.next(l.end)
		if take == size {
			take = min(q.n-l.end.offset, limit-l.bytes)
		}
		longer, ok := appendRange(*pieces, q.iov, q.offset+l.end.offset, take)
		if !ok {
			return l, size, l.datagrams > 0
		}
		*pieces = longer
		l.bytes += take
		l.datagrams += max(1, (take+size-1)/max(size, 1))
		p.advance(&l.end, take)
		if l.bytes == limit || l.bytes%size != 0 || l.end.item == 0 || !p.joins(l.end, size, m) {
			return l, size, true
		}
	}
}

// next is the length of the datagram at a place.
func (p *Port) next(at place) int {
	q := &p.outbox.items[at.item-1]
	return min(q.segment, q.n-at.offset)
}

// joins tells whether the datagram at a place can follow others of size bytes.
func (p *Port) joins(at place, size int, m manner) bool {
	n := p.next(at)
	return n > 0 && n <= size && p.outbox.items[at.item-1].manner == m
}

// advance moves a place n bytes on.
func (p *Port) advance(at *place, n int) {
	q := &p.outbox.items[at.item-1]
	if at.offset += n; at.offset >= q.n {
		*at = place{item: q.next}
	}
}

// ipOptions are the names of the options of a socket that say how its datagrams travel.
type ipOptions struct{ level, hops, discovery, tos int }

var (
	inetOptions  = ipOptions{unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MTU_DISCOVER, unix.IP_TOS}
	inet6Options = ipOptions{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MTU_DISCOVER, unix.IPV6_TCLASS}
)

// set lets what leaves by the socket fd travel as m says.
func (s *udpSender) set(fd int32, m manner) {
	if s.manner == m {
		return
	}
	o := inetOptions
	if s.v6 {
		o = inet6Options
	}
	if s.manner.hops != m.hops {
		hops := int(m.hops)
		if hops == 0 {
			hops = -1 // what the host gives (ip(7))
		}
		_ = unix.SetsockoptInt(int(fd), o.level, o.hops, hops)
	}
	if s.manner.route != m.route && m.route != routeUnset {
		route := unix.IP_PMTUDISC_DONT // the values are the same for both versions of IP
		if m.route == dontFragment {
			route = unix.IP_PMTUDISC_DO
		}
		_ = unix.SetsockoptInt(int(fd), o.level, o.discovery, route)
	}
	if s.manner.tos != m.tos {
		_ = unix.SetsockoptInt(int(fd), o.level, o.tos, int(m.tos))
	}
	s.manner = m
}

// commonSocket returns the socket that f shares with other flows, nil if it has its own.
func (p *Port) commonSocket(f *flow) *sharedSocket {
	if f.bits&shared == 0 {
		return nil
	}
	if f.udp.via == viaMapping {
		return &p.pairs.mappings.find(f.key.guestSide()).sharedSocket
	}
	return p.listen[f.udp.via-1].shared
}
