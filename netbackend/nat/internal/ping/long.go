package ping

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// longReply gives the guest a reply of n bytes that does not fit one frame. Its header is in head, and of the rest room bytes are
// in the frame iov, behind headers, and what follows in the rxBatch.
func (e *Engine) longReply(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, head []byte, room, n int) {
	b := append(t.Overflow[:0], head...)
	b = append(b, make([]byte, room)...)
	guestmem.CopyFrom(b[netpkt.ICMPLen:], iov, netpkt.EtherLen+int(f.IPLen)+netpkt.ICMPLen)
	b = append(b, t.BounceFor(0)[:n-netpkt.ICMPLen-room]...)
	t.Overflow = b
	binary.BigEndian.PutUint16(b[4:], f.Key.GuestPort)
	e.fragments.SendEchoReply(t, &f.Key, t.Msg.Arrived, b)
}
