package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// An echo request may be longer than the guest's MTU: it then comes in fragments, and so does the reply. The reply is put
// together with what else the guest gets in fragments (longDatagram).

// assembledICMP handles an ICMP message that came in fragments. Only echo requests do: neighbour discovery must not (RFC 6980),
// and errors are short.
func (p *Port) assembledICMP(t *shard.Turn, k *shard.Packet) (retry bool) {
	switch {
	case len(k.L4) < netpkt.ICMPLen:
		t.Counters.Malformed++
	case !t.IsUnicastPeer(k):
		p.misaddressed(t, k, netpkt.ICMP)
	case !netpkt.IsEchoRequest(&k.Src, k.L4):
		t.Counters.Unsupported++
	case !t.Nets.IsOurs(&k.Dst):
		return p.ping.ping(t, k)
	case t.Allow(limits.Echo):
		p.fragments.sendLongReply(t, &flowtable.Key{Guest: k.Src, Remote: k.Dst, Proto: netpkt.ICMP}, hostsock.Arrival{}, k.L4)
	}
	return false
}

// longReply gives the guest a reply of n bytes that does not fit one frame. Its header is in head, and of the rest room bytes are
// in the frame iov, behind headers, and what follows in the rxBatch.
func (e *pingEngine) longReply(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, head []byte, room, n int) {
	b := append(t.Overflow[:0], head...)
	b = append(b, make([]byte, room)...)
	guestmem.CopyFrom(b[netpkt.ICMPLen:], iov, netpkt.EtherLen+int(f.IPLen)+netpkt.ICMPLen)
	b = append(b, t.BounceFor(0)[:n-netpkt.ICMPLen-room]...)
	t.Overflow = b
	binary.BigEndian.PutUint16(b[4:], f.Key.GuestPort)
	e.fragments.sendLongReply(t, &f.Key, t.Msg.Arrived, b)
}

// sendLongReply begins to send the reply that icmp is, or is the request of, in fragments.
func (e *fragmenter) sendLongReply(t *shard.Turn, key *flowtable.Key, how hostsock.Arrival, icmp []byte) {
	if e.long.n > 0 {
		t.Counters.NoRoom++ // the guest has no room for the one before
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
	e.sendFragments(t)
}
