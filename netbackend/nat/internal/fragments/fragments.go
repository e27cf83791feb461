package fragments

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Sender gives the guest what fits no frame of its own.
type Sender struct {
	shard *shard.Shard
	long  datagram
}

// SetUp makes that of a queue pair.
func (e *Sender) SetUp(s *shard.Shard) { e.shard = s }

// datagram is what the guest is to get that fits no frame of its own: a datagram or echo reply longer than its MTU, which goes in
// fragments, or several that the kernel has put together for a guest that wants them one by one. There is one such at a
// time: as long as the guest has no room for all of it, nothing else is received.
type datagram struct {
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

// SendDatagrams begins to send payload in datagrams of segment bytes, 0 for a single one.
func (e *Sender) SendDatagrams(t *shard.Turn, key *flowtable.Key, payload []byte, segment int) {
	d := &e.long
	d.prepare()
	if segment == 0 {
		segment = len(payload)
	}
	d.key, d.to, d.arrival, d.segment = *key, t.To, hostsock.Arrival{}, segment
	d.end = netpkt.UDPLen + copy(d.buf[netpkt.UDPLen:], payload)
	e.beginDatagram(0)
	e.SendRest(t)
}

// prepare makes room for the longest there is.
func (d *datagram) prepare() {
	if d.buf == nil {
		d.buf = make([]byte, netpkt.UDPLen+shard.BounceLen)
	}
}

// countLong gives a datagram that goes in fragments its identification.
func (e *Sender) countLong(d *datagram) {
	if d.n > netpkt.UDPLen+e.MaxPayload(&d.key.Guest) {
		e.shard.Counters.LongDatagrams++
	}
	d.count++
	d.id = e.shard.Identity.Fragments(&d.key) + d.count
}

// beginDatagram writes the UDP header of the datagram whose payload follows, at a place in p.long's buffer.
func (e *Sender) beginDatagram(at int) {
	d := &e.long
	d.at, d.sent = at, 0
	d.n = netpkt.UDPLen + min(d.segment, d.end-at-netpkt.UDPLen)
	e.countLong(d)
	udp := d.buf[at : at+d.n]
	netpkt.PutUDP(udp, d.key.RemotePort, d.key.GuestPort, d.n)
	sum := vnet.Sum(udp, shard.PseudoSum(&d.key, d.n))
	binary.BigEndian.PutUint16(udp[6:], netpkt.UDPChecksum(sum))
}

// MaxPayload is the length of the longest UDP payload that one frame to the guest can carry.
func (e *Sender) MaxPayload(guest *ipaddr.Addr) int {
	return e.largestPacket(guest) - guest.HeaderLen() - netpkt.UDPLen
}

// largestPacket is the length of the longest packet that is not made fragments of. Routers do not cut those of IPv6 (RFC 8200
// section 5).
func (e *Sender) largestPacket(guest *ipaddr.Addr) int {
	if guest.Is4() {
		return e.shard.MTU
	}
	return e.shard.PathMTU(guest)
}

// SendRest sends what is left of the long datagram, and tells whether there was room for all.
func (e *Sender) SendRest(t *shard.Turn) bool {
	if e.long.n == 0 {
		return true
	}
	to := t.To
	t.To = e.long.to
	done := e.sendLong(t, &e.long)
	t.To = to
	return done
}

// sendLong is SendRest for a datagram of which something is left.
func (e *Sender) sendLong(t *shard.Turn, d *datagram) bool {
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
func (e *Sender) sendPieces(t *shard.Turn, d *datagram) bool {
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
func (e *Sender) putFragment(t *shard.Turn, d *datagram, n int, whole bool) int {
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

// IsBusy reports whether the guest has yet to get a part of a long datagram, and forget drops that.
func (e *Sender) IsBusy() bool { return e.long.n > 0 }

// Forget drops what is left of a long datagram.
func (e *Sender) Forget() { e.long.n, e.long.sent = 0, 0 }

// SendEchoReply begins to send the reply that icmp is, or is the request of, in fragments.
func (e *Sender) SendEchoReply(t *shard.Turn, key *flowtable.Key, how hostsock.Arrival, icmp []byte) {
	if e.long.n > 0 {
		t.DropToGuest(&t.Counters.NoRoom, key) // the guest has no room for the one before
		return
	}
	d := &e.long
	d.prepare()
	d.key, d.to, d.arrival, d.at, d.sent = *key, t.To, how, 0, 0
	d.n = copy(d.buf, icmp)
	d.end = d.n
	b := d.buf[:d.n]
	b[0], b[1], b[2], b[3] = netpkt.EchoReply(&key.Guest), 0, 0, 0
	binary.BigEndian.PutUint16(b[2:], ^vnet.Sum(b, netpkt.ICMPSum(&key.Remote, &key.Guest, d.n)))
	e.countLong(d)
	e.SendRest(t)
}

// Reserve reserves room for one packet as long as the guest's MTU allows. What is left of a long datagram goes
// first.
func (e *Sender) Reserve(t *shard.Turn) netbackend.Lease {
	if !e.SendRest(t) || t.RXFull {
		return netbackend.Lease{}
	}
	n := max(netpkt.EtherLen+t.MTU, netbackend.MinFrame)
	lease := t.RX.Reserve(netbackend.Request{Min: n, Max: n})
	t.RXFull = lease.Len() == 0
	return lease
}
