package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// ipv6 checks an IPv6 header and hands on what it carries. Of extension headers only that of a fragment is known: hosts put no
// others in front of what has a place here.
func (p *Port) ipv6(t *shard.Turn, c *virtqueue.Chain, h *vnet.Header, head []byte) (retry bool) {
	start := t.HeaderLen + netpkt.EtherLen
	k := shard.Packet{Chain: c}
	if !k.ParseIPv6(head[start:], start, int64(c.Len)) {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	if !t.HasIPv6() {
		t.Drop(&t.Counters.Unsupported)
		return false
	}
	if k.Src.Is4() || k.Dst.Is4() {
		t.Drop(&t.Counters.BadAddress) // no packet has one of these, and here they stand for IPv4
		return false
	}
	p.link.OnIPv6(t)
	if !k.TakeFragmentHeader() {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	if !k.Part.IsAll() {
		return p.fragment(t, &k)
	}
	return p.packet(t, &k, h)
}
