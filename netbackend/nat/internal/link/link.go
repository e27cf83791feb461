package link

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/services/arp"
	"github.com/vringnet/vring/netbackend/services/ndp"
	"github.com/vringnet/vring/virtqueue"
)

// Layer is the engine's part in finding neighbours on the guest's link, by ARP and neighbour discovery.
type Layer struct {
	shard     *shard.Shard
	arpServer *arp.Responder
	ndpServer *ndp.Responder // nil if the guest has no network of IPv6
	guestAt   *atomic.Int64  // of the guest: when the router is advertised in IPv6, 0 for never
	cfg       Config
}

// Config is what a Layer takes from the configuration of its guest.
type Config struct {
	NoNDP    bool // nothing of neighbour discovery is answered
	NoRouter bool // the router is not advertised
}

// SetUp makes what a queue pair has of the link. guestAt is the guest's, and 0 at first.
func (l *Layer) SetUp(cfg Config, s *shard.Shard, arpServer *arp.Responder, ndpServer *ndp.Responder, guestAt *atomic.Int64) {
	*l = Layer{cfg: cfg, shard: s, arpServer: arpServer, ndpServer: ndpServer, guestAt: guestAt}
}

// AnswerFor answers for some addresses, too, in the place of those of before.
func (l *Layer) AnswerFor(aliases []netip.Addr) {
	l.arpServer.SetAliases(aliases)
	if l.ndpServer != nil {
		l.ndpServer.SetAliases(aliases)
	}
}

// HandleNDP answers a message of neighbour discovery.
func (l *Layer) HandleNDP(t *shard.Turn, k *shard.Packet) {
	if l.cfg.NoNDP {
		t.Drop(&t.Counters.Unsupported)
		return
	}
	if !t.Allow(limits.NDP) {
		return
	}
	frame := t.CopyFrame(k.Chain)
	if frame == nil {
		return
	}
	answer, sender, ok := l.ndpServer.Answer(frame, t.MTU)
	if !ok {
		t.Drop(&t.Counters.Malformed)
		return
	}
	if sender.IP.IsValid() {
		a := ipaddr.From(sender.IP)
		if t.OtherGuests[a] {
			t.Drop(&t.Counters.Impostors)
			return
		}
		t.LearnAddress(&a, t.From)
	}
	t.Reply(answer)
}

// Besides on request, the router is advertised from time to time, so that the guest may go on relying on it. That begins
// with the first packet of IPv6 that the guest sends: it may have been told by another process, which was restarted.

// OnIPv6 takes note that the guest speaks IPv6.
func (l *Layer) OnIPv6(t *shard.Turn) {
	if l.guestAt.Load() != 0 || l.cfg.NoRouter {
		return
	}
	l.guestAt.Store(max(t.Now, 1)) // 0 would be never
	if to := t.Pairs.Lowest(); to != nil && to != l.shard {
		to.Wake() // it leads
	}
}

// AdvertiseRouter does so if it is time.
func (l *Layer) AdvertiseRouter(t *shard.Turn) {
	if at := l.AdvertiseAt(); at != 0 && t.Now >= at {
		l.advertiseRouter(t)
	}
}

func (l *Layer) advertiseRouter(t *shard.Turn) {
	if t.HasIPv6() {
		t.Reply(l.ndpServer.Advertisement(t.MTU))
	}
	l.guestAt.Store(t.Now + ndp.Interval*int64(time.Second))
}

// AdvertiseSoon has the router advertised with the next turn, if it is advertised at all: what was told has lapsed. AdvertiseNever ends
// it until the guest speaks IPv6 again.
func (l *Layer) AdvertiseSoon(now int64) {
	if l.guestAt.Load() != 0 {
		l.guestAt.Store(max(now, 1)) // 0 would be never
	}
}

// AdvertiseNever ends it until the guest speaks IPv6 again.
func (l *Layer) AdvertiseNever() { l.guestAt.Store(0) }

// AdvertiseAt returns when AdvertiseRouter has something to do, 0 for never.
func (l *Layer) AdvertiseAt() int64 {
	if !l.shard.Leads() {
		return 0
	}
	return l.guestAt.Load()
}

// HandleARP answers for the engine's addresses.
func (l *Layer) HandleARP(t *shard.Turn, c *virtqueue.Chain) {
	if !t.Allow(limits.ARP) {
		return
	}
	frame := t.CopyFrame(c)
	if frame == nil {
		return
	}
	reply, sender, ok := l.arpServer.Answer(frame)
	if !ok {
		t.Drop(&t.Counters.Malformed)
		return
	}
	if sender.IP.IsValid() && t.OtherGuests[ipaddr.From(sender.IP)] {
		t.Drop(&t.Counters.Impostors)
		return
	}
	if sender.IP.IsValid() {
		a := ipaddr.From(sender.IP)
		t.LearnAddress(&a, t.Meet(hosts.PackMAC(sender.MAC)))
	}
	t.Reply(reply)
}

// Ask asks where an address of the guest is (RFC 826, RFC 4861).
func (l *Layer) Ask(t *shard.Turn, guest ipaddr.Addr) {
	if !guest.Is4() {
		t.Reply(l.ndpServer.Ask(guest.Netip()))
		return
	}
	b := t.Template[:netpkt.EtherLen+28]
	for i := range 6 {
		b[i] = 0xff
	}
	copy(b[6:], t.Cfg.GatewayMAC[:])
	binary.BigEndian.PutUint16(b[12:], netpkt.EtherARP)
	// Ethernet, IPv4, the lengths of their addresses, a request.
	copy(b[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[22:], t.Cfg.GatewayMAC[:])
	copy(b[28:], t.Nets.V4.Gateway.Bytes())
	clear(b[32:38])
	copy(b[38:], guest.Bytes())
	t.Reply(b)
}

// AskOnce is ask, unless that was done just now. What waits for the answer goes on when it is learned.
func (l *Layer) AskOnce(t *shard.Turn, guest ipaddr.Addr) {
	if t.Hosts.MayAsk(&guest, t.Now) {
		l.Ask(t, guest)
	}
}
