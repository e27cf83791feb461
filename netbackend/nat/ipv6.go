package nat

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/services/arp"
	"github.com/vringnet/vring/netbackend/services/ndp"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	protoICMPv6     = unix.IPPROTO_ICMPV6
	protoFragment   = unix.IPPROTO_FRAGMENT
	fragmentHeader  = 8 // length of the extension header of a fragment (RFC 8200 section 4.5)
	minMTU6         = 1280
	fragmentOffset6 = 0xfff8
	moreFragments6  = 1
)

// linkLayer is the engine's part in finding neighbours on the guest's link, by ARP and neighbour discovery.
type linkLayer struct {
	shard     *shard
	arpServer *arp.Responder
	ndpServer *ndp.Responder // nil if the guest has no network of IPv6
}

// hasIPv6 tells whether the guest has a network of IPv6. It takes an MTU that IPv6 can do with (RFC 8200 section 5).
func (s *shard) hasIPv6() bool { return s.nets.V6.Prefix.IsValid() && s.mtu >= minMTU6 }

// ipv6 checks an IPv6 header (RFC 8200 section 3) and hands on what it carries. Of extension headers only that of a
// fragment is known: hosts put no others in front of what has a place here.
func (p *Port) ipv6(t *turn, c *virtqueue.Chain, h *vnet.Header, head []byte) (retry bool) {
	start := t.headerLen + etherLen
	ip := head[start:]
	if len(ip) < ipv6Len || ip[0]>>4 != 6 {
		t.counters.Malformed++
		return false
	}
	n := int(binary.BigEndian.Uint16(ip[4:])) // 0 would be that of a jumbogram, of which there are none (RFC 2675)
	if int64(start+ipv6Len+n) > int64(c.Len) {
		t.counters.Malformed++
		return false
	}
	if !t.hasIPv6() {
		t.counters.Unsupported++
		return false
	}
	k := packet{
		chain: c, l4: ip[ipv6Len:min(len(ip), ipv6Len+n)], l4Offset: start + ipv6Len, l4Len: n,
		src: ipaddr.Addr(ip[8:24]), dst: ipaddr.Addr(ip[24:40]), hops: ip[7], tos: ip[0]<<4 | ip[1]>>4, whole: true,
	}
	if k.src.Is4() || k.dst.Is4() {
		t.counters.BadAddress++ // no packet has one of these, and here they stand for IPv4
		return false
	}
	p.link.begun6(t)
	if ip[6] == protoFragment {
		return p.fragment6(t, &k, h)
	}
	return p.packet(t, &k, h, ip[6])
}

// fragment6 takes the header of a fragment off k. One that is the whole packet is handled as such (RFC 6946).
func (p *Port) fragment6(t *turn, k *packet, h *vnet.Header) (retry bool) {
	if len(k.l4) < fragmentHeader {
		t.counters.Malformed++
		return false
	}
	field := binary.BigEndian.Uint16(k.l4[2:])
	f := fragment{
		proto: k.l4[0], id: binary.BigEndian.Uint32(k.l4[4:]),
		start: int(field & fragmentOffset6), more: field&moreFragments6 != 0,
	}
	k.l4, k.l4Offset, k.l4Len = k.l4[fragmentHeader:], k.l4Offset+fragmentHeader, k.l4Len-fragmentHeader
	k.whole = false
	if f.start == 0 && !f.more {
		return p.packet(t, k, h, f.proto)
	}
	return p.fragment(t, k, f)
}

// isNDP tells whether an ICMPv6 message is one of neighbour discovery (RFC 4861 section 4).
func isNDP(kind uint8) bool {
	const routerSolicitation, redirect = 133, 137
	return kind >= routerSolicitation && kind <= redirect
}

// ndp answers a message of neighbour discovery.
func (l *linkLayer) ndp(t *turn, k *packet) {
	if !t.allow(slowNDP) {
		return
	}
	frame := t.copyFrame(k.chain)
	if frame == nil {
		return
	}
	answer, sender, ok := l.ndpServer.Answer(frame, t.mtu)
	if !ok {
		t.counters.Malformed++
		return
	}
	if sender.IP.IsValid() {
		a := ipaddr.From(sender.IP)
		if t.others[a] {
			t.counters.Impostors++
			return
		}
		t.learnAddress(&a, t.from)
	}
	t.reply(answer)
}

// Besides on request, the router is advertised from time to time, so that the guest may go on relying on it. That begins
// with the first packet of IPv6 that the guest sends: it may have been told by another process, which was restarted.

// begun6 takes note that the guest speaks IPv6.
func (l *linkLayer) begun6(t *turn) {
	if t.pairs.advertiseAt.Load() != 0 {
		return
	}
	t.pairs.advertiseAt.Store(max(t.now, 1)) // 0 would be never
	if to := t.pairs.lowest(); to != nil && to != &t.shard {
		to.post.nudge() // it leads
	}
}

// advertiseRouter does so if it is time.
func (l *linkLayer) advertiseRouter(t *turn) {
	if at := l.advertiseAt(); at == 0 || t.now < at {
		return
	}
	if t.hasIPv6() {
		t.reply(l.ndpServer.Advertisement(t.mtu))
	}
	t.pairs.advertiseAt.Store(t.now + ndp.Interval*int64(time.Second))
}

// advertiseAt returns when advertiseRouter has something to do, 0 for never.
func (l *linkLayer) advertiseAt() int64 {
	if !l.shard.leads() {
		return 0
	}
	return l.shard.pairs.advertiseAt.Load()
}

// putIPv6 writes an IPv6 header. n is the length of what follows it.
func putIPv6(ip []byte, src, dst *ipaddr.Addr, proto uint8, n int) {
	if proto == protoICMP {
		proto = protoICMPv6
	}
	binary.BigEndian.PutUint32(ip, 6<<28) // no traffic class or flow label
	binary.BigEndian.PutUint16(ip[4:], uint16(n))
	ip[6], ip[7] = proto, hopsToGuest
	copy(ip[8:], src[:])
	copy(ip[24:], dst[:])
}

// icmp is the number of ICMP in the IP headers of packets from or to a. In flows and rules it is protoICMP for both
// versions.
func icmpProto(a *ipaddr.Addr) uint8 {
	if a.Is4() {
		return protoICMP
	}
	return protoICMPv6
}
