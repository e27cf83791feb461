package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// An echo request may be longer than the guest's MTU: it then comes in fragments, and so does the reply. The reply is put
// together with what else the guest gets in fragments (longDatagram).

// assembledICMP handles an ICMP message that came in fragments. Only echo requests do: neighbour discovery must not (RFC 6980),
// and errors are short.
func (p *Port) assembledICMP(t *turn, k *packet) (retry bool) {
	switch {
	case len(k.L4) < netpkt.ICMPLen:
		t.counters.Malformed++
	case !t.conversational(k):
		p.misaddressed(t, k, netpkt.ICMP)
	case !netpkt.IsEchoRequest(&k.Src, k.L4):
		t.counters.Unsupported++
	case !t.nets.IsOurs(&k.Dst):
		return p.ping.ping(t, k)
	case t.allow(limits.Echo):
		p.fragments.sendLongReply(t, &flowtable.Key{Guest: k.Src, Remote: k.Dst, Proto: netpkt.ICMP}, hostsock.Arrival{}, k.L4)
	}
	return false
}

// longReply gives the guest a reply of n bytes that does not fit one frame. Its header is in head, and of the rest room bytes are
// in the frame iov, behind headers, and what follows in the rxBatch.
func (e *pingEngine) longReply(t *turn, f *flow, iov []guestmem.Iovec, head []byte, room, n int) {
	b := append(t.overflow[:0], head...)
	b = append(b, make([]byte, room)...)
	guestmem.CopyFrom(b[netpkt.ICMPLen:], iov, netpkt.EtherLen+int(f.ipLen)+netpkt.ICMPLen)
	b = append(b, t.bounceFor(0)[:n-netpkt.ICMPLen-room]...)
	t.overflow = b
	binary.BigEndian.PutUint16(b[4:], f.key.GuestPort)
	e.fragments.sendLongReply(t, &f.key, t.msg.Arrived, b)
}

// sendLongReply begins to send the reply that icmp is, or is the request of, in fragments.
func (e *fragmenter) sendLongReply(t *turn, key *flowtable.Key, how hostsock.Arrival, icmp []byte) {
	if e.long.n > 0 {
		t.counters.NoRoom++ // the guest has no room for the one before
		return
	}
	d := &e.long
	d.prepare()
	d.key, d.to, d.arrival, d.at, d.sent = *key, t.to, how, 0, 0
	d.n = copy(d.buf, icmp)
	d.end = d.n
	b := d.buf[:d.n]
	b[0], b[1], b[2], b[3] = netpkt.EchoReply(&key.Guest), 0, 0, 0
	binary.BigEndian.PutUint16(b[2:], ^vnet.Sum(b, netpkt.ICMPSum(&key.Remote, &key.Guest, d.n)))
	e.countLong(d)
	e.sendFragments(t)
}
