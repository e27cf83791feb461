package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Fragments of UDP, TCP and echo requests are put together (RFC 791 section 3.2, RFC 8200 section 4.5). To the guest, datagrams
// and echo replies go in fragments; TCP has no need of them.

// assemblyHead is the room in front of a packet that is put together, for the headers that frames have there.
const assemblyHead = vnet.HeaderLen + netpkt.EtherLen + netpkt.IPv6Len

// fragmenter gives the guest what fits no frame of its own.
type fragmenter struct {
	shard *shard.Shard
	long  longDatagram
}

// setUp makes that of a queue pair.
func (e *fragmenter) setUp(s *shard.Shard) { e.shard = s }

// fragment takes a fragment of the guest's, the packet k. The last one that was missing sends the datagram on its way.
func (p *Port) fragment(t *shard.Turn, k *shard.Packet) (retry bool) {
	f := k.Part
	if !carries(&k.Src, k.Proto) {
		p.unspoken(t, k, k.Proto, f.Start == 0)
		return false
	}
	n, most := k.L4Len, ipfrag.MaxPayload
	if k.Src.Is4() {
		most = netpkt.MaxIPv4Payload
	}
	if n == 0 || f.Start+n > most || (f.More && n%ipfrag.Unit != 0) {
		t.Counters.Malformed++
		return false
	}
	a, evicted := p.reassembly.Find(&ipfrag.Key{Src: k.Src, Dst: k.Dst, ID: f.ID, Proto: k.Proto}, t.Now)
	t.Counters.FragmentsEvicted += uint64(evicted)
	p.tendAt = min(p.tendAt, p.reassembly.Next())
	if a.Len() == 0 {
		a.Tag = uint8(t.From)
	}
	dropped, ok := a.Add(f.Start, n, f.More)
	if !ok {
		t.Counters.FragmentOverlaps += uint64(dropped)
		return false
	}
	guestmem.CopyFrom(a.Bytes(f.Start, n), k.Chain.Iov, k.L4Offset)
	if f.Start == 0 {
		a.HopLimit, a.TrafficClass = k.Hops, k.TOS
	}
	retry = a.Complete() && p.assembled(t, a)
	if retry {
		a.Undo()
	}
	return retry
}

// assembled handles a packet that is complete, as if it had come in one frame. retry tells that its last fragment has to come
// again.
func (p *Port) assembled(t *shard.Turn, a *ipfrag.Packet) (retry bool) {
	b := a.Buffer()
	p.whole.Iov = append(p.whole.Iov[:0], guestmem.PieceOf(b))
	p.whole.Len = uint32(len(b))
	retry = p.packet(t, &shard.Packet{
		Packet: netpkt.Packet{
			Src: a.Src, Dst: a.Dst, L4: b[assemblyHead:], L4Offset: assemblyHead, L4Len: a.Len(), Proto: a.Proto,
			Hops: a.HopLimit, TOS: a.TrafficClass,
		},
		Chain: &p.whole, Assembled: true,
	}, &vnet.Header{})
	if retry {
		return true
	}
	p.tcp.flushOutgoing(t)
	p.udp.sendQueued(t) // the next one is put together in the same place
	a.Release()
	return false
}

// longDatagram is what the guest is to get that fits no frame of its own: a datagram or echo reply longer than its MTU, which goes in
// fragments, or several that the kernel has put together for a guest that wants them one by one. There is one such at a
// time: as long as the guest has no room for all of it, nothing else is received.
type longDatagram struct {
	key     flowtable.Key
	to      hosts.ID
	arrival hostsock.Arrival
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
func (e *fragmenter) cut(t *shard.Turn, key *flowtable.Key, payload []byte, segment int) {
	d := &e.long
	d.prepare()
	if segment == 0 {
		segment = len(payload)
	}
	d.key, d.to, d.arrival, d.segment = *key, t.To, hostsock.Arrival{}, segment
	d.end = netpkt.UDPLen + copy(d.buf[netpkt.UDPLen:], payload)
	e.beginDatagram(0)
	e.sendFragments(t)
}

// prepare makes room for the longest there is.
func (d *longDatagram) prepare() {
	if d.buf == nil {
		d.buf = make([]byte, netpkt.UDPLen+shard.BounceLen)
	}
}

// countLong gives a datagram that goes in fragments its identification.
func (e *fragmenter) countLong(d *longDatagram) {
	if d.n > netpkt.UDPLen+e.longest(&d.key.Guest) {
		e.shard.Counters.LongDatagrams++
	}
	d.count++
	d.id = e.shard.Identity.Fragments(&d.key) + d.count
}

// beginDatagram writes the UDP header of the datagram whose payload follows, at a place in p.long's buffer.
func (e *fragmenter) beginDatagram(at int) {
	d := &e.long
	d.at, d.sent = at, 0
	d.n = netpkt.UDPLen + min(d.segment, d.end-at-netpkt.UDPLen)
	e.countLong(d)
	udp := d.buf[at : at+d.n]
	netpkt.PutUDP(udp, d.key.RemotePort, d.key.GuestPort, d.n)
	sum := vnet.Sum(udp, shard.PseudoSum(&d.key, d.n))
	binary.BigEndian.PutUint16(udp[6:], netpkt.UDPChecksum(sum))
}

// longest is the length of the longest UDP payload that one frame to the guest can carry.
func (e *fragmenter) longest(guest *ipaddr.Addr) int {
	return e.largestPacket(guest) - guest.HeaderLen() - netpkt.UDPLen
}

// largestPacket is the length of the longest packet that is not made fragments of. Routers do not cut those of IPv6 (RFC 8200
// section 5).
func (e *fragmenter) largestPacket(guest *ipaddr.Addr) int {
	if guest.Is4() {
		return e.shard.MTU
	}
	return e.shard.PathMTU(guest)
}

// sendFragments sends what is left of the long datagram, and tells whether there was room for all.
func (e *fragmenter) sendFragments(t *shard.Turn) bool {
	if e.long.n == 0 {
		return true
	}
	to := t.To
	t.To = e.long.to
	done := e.sendLong(t, &e.long)
	t.To = to
	return done
}

// sendLong is sendFragments for a datagram of which something is left.
func (e *fragmenter) sendLong(t *shard.Turn, d *longDatagram) bool {
	for d.n > 0 {
		if !e.sendPieces(t, d) {
			return false
		}
		if at := d.at + d.n - netpkt.UDPLen; at+netpkt.UDPLen < d.end {
			e.beginDatagram(at)
		} else {
			d.n, d.sent = 0, 0
		}
	}
	return true
}

// sendPieces sends what is left of the present datagram.
func (e *fragmenter) sendPieces(t *shard.Turn, d *longDatagram) bool {
	ipLen := d.key.Guest.HeaderLen()
	packet := e.largestPacket(&d.key.Guest)
	whole := d.n <= packet-ipLen
	most := d.n
	if !whole {
		most = (packet - ipLen - netpkt.FragmentOverhead(&d.key.Guest)) &^ (ipfrag.Unit - 1)
	}
	for d.sent < d.n {
		n := min(d.n-d.sent, most)
		headers := e.putFragment(t, d, n, whole)
		b := t.Frame[:headers+n]
		copy(b[headers:], d.buf[d.at+d.sent:d.at+d.sent+n])
		if !t.Send(b) {
			return false
		}
		d.sent += n
	}
	return true
}

// putFragment writes the headers in front of the next n bytes of d to t.slow, and returns their length. whole tells that
// there is nothing else.
func (e *fragmenter) putFragment(t *shard.Turn, d *longDatagram, n int, whole bool) int {
	headers := t.PutIP(t.Frame, &d.key.Remote, &d.key.Guest, d.key.Proto, n)
	ip := t.Frame[netpkt.EtherLen:headers]
	shard.PutArrival(d.arrival, ip)
	if whole && !d.key.Guest.Is4() {
		return headers
	}
	more := netpkt.FragmentOverhead(&d.key.Guest)
	netpkt.PutPart(ip, t.Frame[headers:headers+more], netpkt.Part{ID: d.id, Start: d.sent, More: d.sent+n < d.n}, n)
	return headers + more
}

// forgetFragments drops what is left of datagrams in either direction: the guest is gone.
func (p *Port) forgetFragments() {
	p.reassembly.Forget()
	p.fragments.forget()
}

// busy reports whether the guest has yet to get a part of a long datagram, and forget drops that.
func (e *fragmenter) busy() bool { return e.long.n > 0 }
func (e *fragmenter) forget()    { e.long.n, e.long.sent = 0, 0 }
