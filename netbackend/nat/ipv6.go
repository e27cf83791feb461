package nat

import (
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/services/arp"
	"github.com/vringnet/vring/netbackend/services/ndp"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// linkLayer is the engine's part in finding neighbours on the guest's link, by ARP and neighbour discovery.
type linkLayer struct {
	shard     *shard.Shard
	arpServer *arp.Responder
	ndpServer *ndp.Responder // nil if the guest has no network of IPv6
	guestAt   *atomic.Int64  // of the guest: when the router is advertised in IPv6, 0 for never
}

// setUp makes what a queue pair has of the link. guestAt is the guest's, and 0 at first.
func (l *linkLayer) setUp(s *shard.Shard, arpServer *arp.Responder, ndpServer *ndp.Responder, guestAt *atomic.Int64) {
	*l = linkLayer{shard: s, arpServer: arpServer, ndpServer: ndpServer, guestAt: guestAt}
}

// ipv6 checks an IPv6 header and hands on what it carries. Of extension headers only that of a fragment is known: hosts put no
// others in front of what has a place here.
func (p *Port) ipv6(t *shard.Turn, c *virtqueue.Chain, h *vnet.Header, head []byte) (retry bool) {
	start := t.HeaderLen + netpkt.EtherLen
	k := shard.Packet{Chain: c}
	if !k.ParseIPv6(head[start:], start, int64(c.Len)) {
		t.Counters.Malformed++
		return false
	}
	if !t.HasIPv6() {
		t.Counters.Unsupported++
		return false
	}
	if k.Src.Is4() || k.Dst.Is4() {
		t.Counters.BadAddress++ // no packet has one of these, and here they stand for IPv4
		return false
	}
	p.link.begun6(t)
	if !k.TakeFragmentHeader() {
		t.Counters.Malformed++
		return false
	}
	if !k.Part.IsAll() {
		return p.fragment(t, &k)
	}
	return p.packet(t, &k, h)
}

// ndp answers a message of neighbour discovery.
func (l *linkLayer) ndp(t *shard.Turn, k *shard.Packet) {
	if !t.Allow(limits.NDP) {
		return
	}
	frame := t.CopyFrame(k.Chain)
	if frame == nil {
		return
	}
	answer, sender, ok := l.ndpServer.Answer(frame, t.MTU)
	if !ok {
		t.Counters.Malformed++
		return
	}
	if sender.IP.IsValid() {
		a := ipaddr.From(sender.IP)
		if t.OtherGuests[a] {
			t.Counters.Impostors++
			return
		}
		t.LearnAddress(&a, t.From)
	}
	t.Reply(answer)
}

// Besides on request, the router is advertised from time to time, so that the guest may go on relying on it. That begins
// with the first packet of IPv6 that the guest sends: it may have been told by another process, which was restarted.

// begun6 takes note that the guest speaks IPv6.
func (l *linkLayer) begun6(t *shard.Turn) {
	if l.guestAt.Load() != 0 {
		return
	}
	l.guestAt.Store(max(t.Now, 1)) // 0 would be never
	if to := t.Pairs.Lowest(); to != nil && to != l.shard {
		to.Wake() // it leads
	}
}

// advertiseRouter does so if it is time.
func (l *linkLayer) advertiseRouter(t *shard.Turn) {
	if at := l.advertiseAt(); at == 0 || t.Now < at {
		return
	}
	if t.HasIPv6() {
		t.Reply(l.ndpServer.Advertisement(t.MTU))
	}
	l.guestAt.Store(t.Now + ndp.Interval*int64(time.Second))
}

// advertiseSoon has the router advertised with the next turn, if it is advertised at all: what was told has lapsed. advertiseNever ends
// it until the guest speaks IPv6 again.
func (l *linkLayer) advertiseSoon(now int64) {
	if l.guestAt.Load() != 0 {
		l.guestAt.Store(max(now, 1)) // 0 would be never
	}
}
func (l *linkLayer) advertiseNever() { l.guestAt.Store(0) }

// advertiseAt returns when advertiseRouter has something to do, 0 for never.
func (l *linkLayer) advertiseAt() int64 {
	if !l.shard.Leads() {
		return 0
	}
	return l.guestAt.Load()
}
