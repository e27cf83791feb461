package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Fragments of UDP, TCP and echo requests are put together (RFC 791 section 3.2, RFC 8200 section 4.5). To the guest, datagrams
// and echo replies go in fragments; TCP has no need of them.

const (
	moreFragments   = 0x2000
	fragmentOffset  = 0x1fff
	dontFragmentBit = 0x40 // of the first byte of the field
	fragmentUnit    = 8    // bytes in which offsets are counted
	fragmentField   = 6    // where flags and offset stand in the IPv4 header
	identification  = 4    // and the identification

	maxIPv4Payload = 65535 - ipv4Len
	maxIPPayload   = 65535 // of either version

	// maxAssemblies is how many datagrams may be incomplete at once. A guest sends the fragments of one datagram after
	// another, so few are needed; with it, they hold about 1 MiB at most.
	maxAssemblies = 16
	// assemblyTimeout ends the wait for the rest of a datagram. Nothing gets lost on the way from the guest.
	assemblyTimeout = int64(30e9)
	// assemblyHead is the room in front of a datagram that is put together, for the headers that frames have there.
	assemblyHead = vnet.HeaderLen + etherLen + ipv6Len
)

// fragmentKey names the datagram that a fragment belongs to.
type fragmentKey struct {
	src, dst ipaddr.Addr
	id       uint32
	proto    uint8
}

// fragment is what the IP header says of a fragment of the guest's.
type fragment struct {
	proto uint8
	id    uint32
	start int // of its payload in that of the whole packet
	more  bool
}

// assembly is a packet of the guest's that is being put together. No two of its fragments overlap.
type assembly struct {
	key      fragmentKey
	deadline int64 // when it is given up; 0 if the record is free
	spoiled  bool  // its fragments contradict each other: those that are still to come are dropped too
	hops     uint8 // of the first fragment: time to live
	tos      uint8 // and traffic class
	from     hostID
	progress
	seen [(maxIPPayload/fragmentUnit + 64) / 64]uint64
	buf  []byte // assemblyHead bytes, then the transport header and payload
}

// progress is how far an assembly has come.
type progress struct {
	held  int // fragments that were taken
	have  int // and the bytes in them
	end   int // where the furthest of them ends
	total int // length of the whole, 0 until the last fragment has come
}

// take notes the fragment [start, end), and tells whether it goes with the others. One that covers a byte for the second
// time does not, even if it repeats another: no wire between has doubled it (RFC 5722 section 4 for IPv6).
func (a *assembly) take(start, end int, more bool) bool {
	if !more {
		if a.total != 0 || end < a.end {
			return false
		}
		a.total = end
	}
	if a.total != 0 && end > a.total {
		return false
	}
	for unit := start / fragmentUnit; unit*fragmentUnit < end; unit++ {
		word, bit := &a.seen[unit/64], uint64(1)<<(unit%64)
		if *word&bit != 0 {
			return false
		}
		*word |= bit
	}
	a.held++
	a.have += end - start
	a.end = max(a.end, end)
	return true
}

// fragment takes a fragment of the guest's, the packet k. The last one that was missing sends the datagram on its way.
func (p *Port) fragment(k *packet, f fragment) (retry bool) {
	if !carries(&k.src, f.proto) {
		p.unspoken(k, f.proto, f.start == 0)
		return false
	}
	n, most := k.l4Len, maxIPPayload
	if k.src.Is4() {
		most = maxIPv4Payload
	}
	if n == 0 || f.start+n > most || (f.more && n%fragmentUnit != 0) {
		p.counters.Malformed++
		return false
	}
	a := p.assembly(fragmentKey{src: k.src, dst: k.dst, id: f.id, proto: f.proto})
	before := a.progress
	if a.spoiled || !a.take(f.start, f.start+n, f.more) {
		a.spoiled = true
		p.counters.FragmentOverlaps += uint64(a.held) + 1
		a.held = 0
		return false
	}
	guestmem.CopyFrom(a.buf[assemblyHead+f.start:assemblyHead+f.start+n], k.chain.Iov, k.l4Offset)
	if f.start == 0 {
		a.hops, a.tos = k.hops, k.tos
	}
	retry = a.have == a.total && p.assembled(a)
	if retry {
		a.untake(f.start, f.start+n, before)
	}
	return retry
}

// untake forgets that the fragment [start, end) was taken, before which things stood as before says: its frame comes again.
func (a *assembly) untake(start, end int, before progress) {
	for unit := start / fragmentUnit; unit*fragmentUnit < end; unit++ {
		a.seen[unit/64] &^= 1 << (unit % 64)
	}
	a.progress = before
}

// assembly returns the record for key. If there is none yet, it takes a free one, or that of the oldest datagram.
func (p *Port) assembly(key fragmentKey) *assembly {
	if p.assemblies == nil {
		p.assemblies = make([]assembly, maxAssemblies)
	}
	oldest := &p.assemblies[0]
	for i := range p.assemblies {
		a := &p.assemblies[i]
		if a.deadline != 0 && a.key == key {
			return a
		}
		if a.deadline < oldest.deadline {
			oldest = a
		}
	}
	oldest.giveUp(&p.counters.FragmentsEvicted)
	buf := oldest.buf
	if buf == nil {
		buf = make([]byte, assemblyHead+maxIPPayload)
	}
	*oldest = assembly{key: key, deadline: p.now + assemblyTimeout, from: p.from, buf: buf}
	if p.expiryAt == 0 {
		p.expiryAt = oldest.deadline
	}
	return oldest
}

// giveUp frees the record, and counts the fragments in it as dropped.
func (a *assembly) giveUp(counter *uint64) {
	*counter += uint64(a.held)
	a.held, a.deadline = 0, 0
}

// assembled handles a packet that is complete, as if it had come in one frame. retry tells that its last fragment has to come
// again.
func (p *Port) assembled(a *assembly) (retry bool) {
	n := assemblyHead + a.total
	p.whole.Iov = append(p.whole.Iov[:0], guestmem.PieceOf(a.buf[:n]))
	p.whole.Len = uint32(n)
	retry = p.packet(&packet{
		chain: &p.whole, l4: a.buf[assemblyHead:n], l4Offset: assemblyHead, l4Len: a.total,
		src: a.key.src, dst: a.key.dst, hops: a.hops, tos: a.tos, assembled: true,
	}, &vnet.Header{}, a.key.proto)
	if retry {
		return true
	}
	p.flushOutgoing()
	p.sendQueued() // the next one is put together in the same place
	a.held, a.deadline = 0, 0
	return false
}

// longDatagram is what the guest is to get that fits no frame of its own: a datagram or echo reply longer than its MTU, which goes in
// fragments, or several that the kernel has put together for a guest that wants them one by one. There is one such at a
// time: as long as the guest has no room for all of it, nothing else is received.
type longDatagram struct {
	key     flowKey
	to      hostID
	arrival arrival
	id      uint32 // of the fragments
	count   uint32 // of datagrams so far
	segment int    // payload of each datagram but the last
	at      int    // where in buf the present datagram's transport header stands, over payload that was sent
	n       int    // length of its transport header and payload, 0 if nothing is left
	sent    int    // of which
	end     int    // of all payload in buf
	buf     []byte
}

// cut begins to send payload in datagrams of segment bytes, 0 for a single one.
func (p *Port) cut(key *flowKey, payload []byte, segment int) {
	d := &p.long
	d.prepare()
	if segment == 0 {
		segment = len(payload)
	}
	d.key, d.to, d.arrival, d.segment = *key, p.to, arrival{}, segment
	d.end = udpLen + copy(d.buf[udpLen:], payload)
	p.beginDatagram(0)
	p.sendFragments()
}

// prepare makes room for the longest there is.
func (d *longDatagram) prepare() {
	if d.buf == nil {
		d.buf = make([]byte, udpLen+maxDatagram)
	}
}

// countLong gives a datagram that goes in fragments its identification.
func (p *Port) countLong(d *longDatagram) {
	if d.n > udpLen+p.longest(&d.key.guest) {
		p.counters.LongDatagrams++
	}
	d.count++
	d.id = p.identity.fragments(&d.key) + d.count
}

// beginDatagram writes the UDP header of the datagram whose payload follows, at a place in p.long's buffer.
func (p *Port) beginDatagram(at int) {
	d := &p.long
	d.at, d.sent = at, 0
	d.n = udpLen + min(d.segment, d.end-at-udpLen)
	p.countLong(d)
	udp := d.buf[at : at+d.n]
	putUDP(udp, d.key.remotePort, d.key.guestPort, d.n)
	sum := vnet.Sum(udp, d.key.pseudoSum(d.n))
	binary.BigEndian.PutUint16(udp[6:], udpChecksum(sum))
}

// longest is the length of the longest UDP payload that one frame to the guest can carry.
func (p *Port) longest(guest *ipaddr.Addr) int {
	return p.largestPacket(guest) - guest.HeaderLen() - udpLen
}

// largestPacket is the length of the longest packet that is not made fragments of. Routers do not cut those of IPv6 (RFC 8200
// section 5).
func (p *Port) largestPacket(guest *ipaddr.Addr) int {
	if guest.Is4() {
		return p.mtu
	}
	return p.pathMTU(guest)
}

// sendFragments sends what is left of the long datagram, and tells whether there was room for all.
func (p *Port) sendFragments() bool {
	if p.long.n == 0 {
		return true
	}
	to := p.to
	p.to = p.long.to
	done := p.sendLong(&p.long)
	p.to = to
	return done
}

// sendLong is sendFragments for a datagram of which something is left.
func (p *Port) sendLong(d *longDatagram) bool {
	for d.n > 0 {
		if !p.sendPieces(d) {
			return false
		}
		if at := d.at + d.n - udpLen; at+udpLen < d.end {
			p.beginDatagram(at)
		} else {
			d.n, d.sent = 0, 0
		}
	}
	return true
}

// sendPieces sends what is left of the present datagram.
func (p *Port) sendPieces(d *longDatagram) bool {
	ipLen := d.key.guest.HeaderLen()
	packet := p.largestPacket(&d.key.guest)
	whole := d.n <= packet-ipLen
	most := d.n
	if !whole {
		most = (packet - ipLen - fragmentLen(&d.key.guest)) &^ (fragmentUnit - 1)
	}
	for d.sent < d.n {
		n := min(d.n-d.sent, most)
		headers := p.putFragment(d, n, whole)
		b := p.slow[:headers+n]
		copy(b[headers:], d.buf[d.at+d.sent:d.at+d.sent+n])
		if !p.send(b) {
			return false
		}
		d.sent += n
	}
	return true
}

// fragmentLen is how much longer the headers of a fragment to a are than those of a whole packet.
func fragmentLen(a *ipaddr.Addr) int {
	if a.Is4() {
		return 0
	}
	return fragmentHeader
}

// putFragment writes the headers in front of the next n bytes of d to p.slow, and returns their length. whole tells that
// there is nothing else.
func (p *Port) putFragment(d *longDatagram, n int, whole bool) int {
	more := d.sent+n < d.n
	headers := p.putIP(p.slow, &d.key.remote, &d.key.guest, d.key.proto, n)
	ip := p.slow[etherLen:headers]
	d.arrival.put(ip)
	if d.key.guest.Is4() {
		field := uint16(d.sent / fragmentUnit)
		if more {
			field |= moreFragments
		}
		binary.BigEndian.PutUint16(ip[identification:], uint16(d.id))
		binary.BigEndian.PutUint16(ip[fragmentField:], field) // without "don't fragment"
		sumIPv4(ip)
		return headers
	}
	if whole {
		return headers
	}
	binary.BigEndian.PutUint16(ip[4:], uint16(fragmentHeader+n))
	proto := ip[6]
	ip[6] = protoFragment
	field := uint16(d.sent)
	if more {
		field |= moreFragments6
	}
	b := p.slow[headers : headers+fragmentHeader]
	b[0], b[1] = proto, 0
	binary.BigEndian.PutUint16(b[2:], field)
	binary.BigEndian.PutUint32(b[4:], d.id)
	return headers + fragmentHeader
}

// forgetFragments drops what is left of datagrams in either direction: the guest is gone.
func (p *Port) forgetFragments() {
	p.assemblies, p.expiryAt = nil, 0
	p.long.n, p.long.sent = 0, 0
}
