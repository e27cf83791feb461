package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/reports"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// controlMessage handles an ICMP message of the guest: echo requests to the engine's own addresses are answered, others passed on.
func (p *Port) controlMessage(t *shard.Turn, k *shard.Packet) (retry bool) {
	if len(k.L4) < netpkt.ICMPLen {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	if !k.Src.Is4() && netpkt.IsNDP(k.L4[0]) {
		p.link.HandleNDP(t, k)
		return false
	}
	if p.icmpOff {
		t.Drop(&t.Counters.Unsupported)
		return false
	}
	if !t.IsUnicastPeer(k) {
		p.strays.Misaddressed(t, k, netpkt.ICMP)
		return false
	}
	if reports.ComplaintIn(k) != netpkt.NoComplaint {
		return p.reports.Handle(t, k)
	}
	if !netpkt.IsEchoRequest(&k.Src, k.L4) {
		t.Drop(&t.Counters.Unsupported)
		return false
	}
	if !t.Nets.IsOurs(&k.Dst) && !p.policy.IsAlias(&k.Dst) {
		return p.ping.Request(t, k)
	}
	if !t.Allow(limits.Echo) {
		return false
	}
	start := k.L4Offset - t.HeaderLen
	frame := t.CopyFrame(k.Chain)
	if frame == nil {
		return false
	}
	// The request becomes the answer, behind headers without options.
	b := frame[start-netpkt.EtherLen-k.Src.HeaderLen() : start+k.L4Len]
	rest := binary.BigEndian.Uint32(frame[start+4:])
	t.Reply(icmperr.PutMessage(t, b, &k.Dst, &k.Src, netpkt.Message{Kind: netpkt.EchoReply(&k.Src)}, rest))
	return false
}
