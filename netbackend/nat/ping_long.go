package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// An echo request may be longer than the guest's MTU: it then comes in fragments, and so does the reply. The reply is put
// together with what else the guest gets in fragments (longDatagram).

// assembledICMP handles an ICMP message that came in fragments. Only echo requests do: neighbour discovery must not (RFC 6980),
// and errors are short.
func (p *Port) assembledICMP(k *packet) (retry bool) {
	switch {
	case len(k.l4) < icmpLen:
		p.counters.Malformed++
	case !p.conversational(k):
		p.misaddressed(k, protoICMP)
	case !isEchoRequest(&k.src, k.l4):
		p.counters.Unsupported++
	case !p.nets.ours(&k.dst):
		return p.ping(k)
	case p.afford(errandEcho):
		p.sendLongReply(&flowKey{guest: k.src, remote: k.dst, proto: protoICMP}, hostsock.Arrival{}, k.l4)
	}
	return false
}

// longReply gives the guest a reply of n bytes that does not fit one frame. Its header is in head, and of the rest room bytes are
// in the frame iov, behind headers, and what follows in the inbox.
func (p *Port) longReply(f *flow, iov []guestmem.Iovec, head []byte, room, n int) {
	b := append(p.inbox.aside[:0], head...)
	b = append(b, make([]byte, room)...)
	guestmem.CopyFrom(b[icmpLen:], iov, etherLen+int(f.ipLen)+icmpLen)
	b = append(b, p.inbox.spilled(0)[:n-icmpLen-room]...)
	p.inbox.aside = b
	binary.BigEndian.PutUint16(b[4:], f.key.guestPort)
	p.sendLongReply(&f.key, p.msg.Arrived, b)
}

// sendLongReply begins to send the reply that icmp is, or is the request of, in fragments.
func (p *Port) sendLongReply(key *flowKey, how hostsock.Arrival, icmp []byte) {
	if p.long.n > 0 {
		p.counters.NoRoom++ // the guest has no room for the one before
		return
	}
	d := &p.long
	d.prepare()
	d.key, d.to, d.arrival, d.at, d.sent = *key, p.to, how, 0, 0
	d.n = copy(d.buf, icmp)
	d.end = d.n
	b := d.buf[:d.n]
	b[0], b[1], b[2], b[3] = echoReply(&key.guest), 0, 0, 0
	binary.BigEndian.PutUint16(b[2:], ^vnet.Sum(b, icmpSum(&key.remote, &key.guest, d.n)))
	p.countLong(d)
	p.sendFragments()
}
