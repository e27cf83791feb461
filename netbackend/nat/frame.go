package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// frame handles one frame of the guest. It, and what it calls for the frame, report whether the frame is to be tried again later:
// another queue pair has its flow.
func (p *Port) frame(t *shard.Turn, c *virtqueue.Chain) (retry bool) {
	t.Counters.FramesIn++
	if int64(c.Len) < int64(t.HeaderLen+netpkt.EtherLen) {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	n := guestmem.CopyFrom(p.head[:], c.Iov, 0)
	head := p.head[:n]
	var h vnet.Header
	h.Decode(head[:t.HeaderLen])
	if h.Check(int(c.Len)-t.HeaderLen, t.Features) != nil {
		t.Drop(&t.Counters.BadHeader)
		return false
	}
	ether := head[t.HeaderLen:]
	etherType := binary.BigEndian.Uint16(ether[12:])
	if h.CheckEtherType(etherType) != nil {
		t.Drop(&t.Counters.BadHeader)
		return false
	}
	t.Learn(binary.BigEndian.Uint64(ether[4:]) & (1<<48 - 1)) // bytes 6 to 11
	switch etherType {
	case netpkt.EtherIPv4:
		return p.ipv4(t, c, &h, head)
	case netpkt.EtherIPv6:
		return p.ipv6(t, c, &h, head)
	case netpkt.EtherARP:
		p.link.HandleARP(t, c)
	default:
		t.Drop(&t.Counters.Unsupported)
	}
	return false
}

// ipv4 checks an IPv4 header and hands on what it carries.
func (p *Port) ipv4(t *shard.Turn, c *virtqueue.Chain, h *vnet.Header, head []byte) (retry bool) {
	start := t.HeaderLen + netpkt.EtherLen
	k := shard.Packet{Chain: c}
	if !k.ParseIPv4(head[start:], start, int64(c.Len)) {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	if !k.Part.IsAll() {
		return p.fragment(t, &k)
	}
	return p.packet(t, &k, h)
}

// packet handles a whole packet of either version of IP.
func (p *Port) packet(t *shard.Turn, k *shard.Packet, h *vnet.Header) (retry bool) {
	if t.OtherGuests[k.Src] {
		t.Drop(&t.Counters.Impostors)
		return false
	}
	if h.GSOType == vnet.GSOUDPL4 {
		k.Segment = int(h.GSOSize)
	}
	switch {
	case p.tcpOff && k.Proto == netpkt.TCP:
		t.Drop(&t.Counters.Unsupported)
	case k.Proto == netpkt.TCP:
		return p.tcp.Segment(t, k)
	case k.Proto == netpkt.UDP:
		return p.udp.Datagram(t, k)
	case k.Proto == netpkt.ICMPProto(&k.Src):
		if k.Assembled {
			return p.assembledICMP(t, k)
		}
		if k.Src.HeaderLen()+k.L4Len > t.MTU {
			t.Drop(&t.Counters.Malformed) // it would have come in fragments
			return false
		}
		return p.controlMessage(t, k)
	default:
		p.strays.Unspoken(t, k, k.Proto, true)
	}
	return false
}
