package groups

import (
	"encoding/binary"
	"log/slog"
	"net/netip"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/multicast"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// With Config.Multicast the guest finds services in networks of the host, by mDNS and SSDP: see package multicast, which says what
// passes, and keeps the sockets. All queue pairs of a guest send; the one that listens for forwards receives.
//
// The policy is asked of the group when the guest asks, and of whoever answers as if the guest sent there, so that what the
// guest must not reach is not offered to it. What is on the guest's own link for the host, link-local addresses of IPv6, is good for
// finding services only, so of these only rules are asked.

// multicastBurst is how many datagrams of groups are taken in one turn.
const multicastBurst = 32

// NewsIndex is the index, in tokens of news, of what the Reflector has; 0 is that of the news of routes.
const NewsIndex = 1

// Reflector passes multicast between the guest and networks of the host.
type Reflector struct {
	shard     *shard.Shard
	policy    *policy.Policy
	reflector *multicast.Reflector // of the guest; nil without Config.Multicast
	groupNews news
}

// news is what a queue pair remembers of its guest's Reflector.
type news struct {
	due   bool   // there may be something to receive
	seen  uint16 // the number of changes of the host when the interfaces were looked at last
	frame []byte // scratch
}

// SetUp makes that of a queue pair.
func (e *Reflector) SetUp(s *shard.Shard, policy *policy.Policy, r *multicast.Reflector) {
	*e = Reflector{shard: s, policy: policy, reflector: r}
}

// ToGroup handles a datagram of the guest to a group, and reports whether it was one for the host's networks.
func (e *Reflector) ToGroup(t *shard.Turn, k *shard.Packet) bool {
	if e.reflector == nil || len(k.L4) < netpkt.UDPLen {
		return false
	}
	to := ipaddr.Endpoint{Addr: k.Dst, Port: binary.BigEndian.Uint16(k.L4[2:])}
	group, ok := multicast.Of(to.Netip())
	from := ipaddr.Endpoint{Addr: k.Src, Port: binary.BigEndian.Uint16(k.L4)}
	if !ok || from.Port == 0 || !k.Src.IsUnicast() || t.Nets.IsOurs(&k.Src) || k.Src.IsLoopback() || k.Src.Is4() != k.Dst.Is4() {
		return false
	}
	if !t.Allow(limits.Group) {
		return true
	}
	if !e.policy.Permits(policy.Destination{Endpoint: to, Proto: netpkt.UDP}) {
		t.Counters.Denied++
		return true
	}
	length := int(binary.BigEndian.Uint16(k.L4[4:]))
	if k.Segment != 0 || k.Assembled || length-netpkt.UDPLen > multicast.MaxPayload {
		t.Drop(&t.Counters.MulticastUnsent)
		return true
	}
	message := t.CopyPayload(k, length)
	if message == nil {
		return true
	}
	t.LearnAddress(&k.Src, t.From)
	switch e.reflector.Send(t.Now, group, from.Netip(), message) {
	case multicast.Sent:
		t.Counters.MulticastSent++
	case multicast.SentInstead:
		t.Counters.MulticastSent++
		t.Counters.MulticastAsksEvicted++
	case multicast.Kept:
		t.Drop(&t.Counters.MulticastKept)
	case multicast.Malformed:
		t.Drop(&t.Counters.Malformed)
	case multicast.Unsent:
		t.Drop(&t.Counters.MulticastUnsent)
	}
	return true
}

// mayAnswer reports whether the guest may hear of a sender of the host's networks.
func (e *Reflector) mayAnswer(d *multicast.Datagram) bool {
	from := policy.Destination{Endpoint: ipaddr.EndpointFrom(d.From), Proto: netpkt.UDP}
	if from.Addr.IsLinkLocal() {
		if d.Own {
			return e.policy.Opens(from)
		}
		return e.policy.Permits(from)
	}
	return e.policy.Judge(from).Verdict == policy.Allowed
}

// Refresh looks at the interfaces again if links or addresses of the host have changed: changes is another number then.
func (e *Reflector) Refresh(changes uint16) {
	if e.reflector == nil || !e.shard.Listening {
		return
	}
	if changes != e.groupNews.seen {
		e.groupNews.seen = changes
		e.tellLinks(e.reflector.Refresh())
	}
}

// Receive takes what the networks of the host have for the guest. What is left over is taken in the next turn.
func (e *Reflector) Receive(t *shard.Turn) {
	if !t.Listening {
		e.groupNews.due = false // whoever listens now is told as well
		return
	}
	for range multicastBurst {
		d := e.reflector.Receive(t.Now)
		if d.Kind == multicast.Nothing {
			e.groupNews.due = false
			return
		}
		e.fromGroup(t, &d)
	}
	t.Again = true
}

// fromGroup handles a datagram of a network of the host.
func (e *Reflector) fromGroup(t *shard.Turn, d *multicast.Datagram) {
	switch {
	case d.Kind == multicast.Question:
		t.Counters.MulticastIgnored++
	case d.Kind == multicast.Stranger:
		t.Counters.MulticastStrangers++
	case d.Kind == multicast.Distorted:
		t.Counters.MulticastDistorted++
	case !e.mayAnswer(d):
		t.Counters.MulticastDenied++
	case !t.Allow(limits.Heard):
	default:
		e.giveFromGroup(t, d)
	}
}

// giveFromGroup gives the guest a datagram of a network of the host. mDNS comes from the router, as from every reflector: an answer by
// unicast is to come from the guest's own link (RFC 6762 section 11). SSDP comes from the device, unless it has a link-local
// address, which on the guest's link would be another device's.
func (e *Reflector) giveFromGroup(t *shard.Turn, d *multicast.Datagram) {
	key := flowtable.Key{Proto: netpkt.UDP, RemotePort: d.From.Port(), GuestPort: d.To.Port()}
	t.To = hosts.Any
	var mac uint64
	if d.Asked {
		key.Guest = ipaddr.EndpointFrom(d.To).Addr
		t.To = t.Hosts.User(&key.Guest)
		mac = t.Hosts.MAC(t.To)
	} else {
		group := d.Group.Address(d.Is6)
		key.Guest, key.GuestPort = ipaddr.From(group), d.Group.Port()
		mac = groupMAC(group)
	}
	key.Remote = ipaddr.From(d.From.Addr())
	router := &t.Nets.V4.Gateway
	if d.Is6 {
		router = &t.Nets.LinkLocal
	}
	if d.Group == multicast.MDNS || key.Remote.IsLinkLocal() {
		key.Remote = *router
	}
	if netpkt.UDPLen+len(d.Payload)+key.Guest.HeaderLen() > t.MTU {
		t.Counters.MulticastDistorted++
		return
	}
	if !t.Receiving || !t.Send(e.groupFrame(t, mac, &key, d)) {
		t.DropToGuest(&t.Counters.NoRoom, &key)
		return
	}
	t.Counters.MulticastReceived++
}

// groupMAC is where frames to a group go (RFC 1112 section 6.4, RFC 2464 section 7).
func groupMAC(group netip.Addr) uint64 {
	if group.Is4() {
		a := group.As4()
		return 0x01005e<<24 | uint64(binary.BigEndian.Uint32(a[:])&(1<<23-1))
	}
	a := group.As16()
	return 0x3333<<32 | uint64(binary.BigEndian.Uint32(a[12:]))
}

// groupFrame builds the frame for a datagram, in scratch.
func (e *Reflector) groupFrame(t *shard.Turn, mac uint64, key *flowtable.Key, d *multicast.Datagram) []byte {
	n := netpkt.UDPLen + len(d.Payload)
	if e.groupNews.frame == nil {
		e.groupNews.frame = make([]byte, netpkt.EtherLen+netpkt.IPv6Len+netpkt.UDPLen+multicast.MaxPayload)
	}
	b := e.groupNews.frame[:shard.UDPHeaders(&key.Guest)+len(d.Payload)]
	headers := t.PutIP(b, &key.Remote, &key.Guest, netpkt.UDP, n)
	hosts.PutMAC(b, mac)
	if d.Group == multicast.MDNS {
		shard.PutArrival(hostsock.Arrival{HopLimit: multicast.MDNSHops}, b[netpkt.EtherLen:headers])
	}
	udp := b[headers:]
	netpkt.PutUDP(udp, key.RemotePort, key.GuestPort, n)
	copy(udp[netpkt.UDPLen:], d.Payload)
	binary.BigEndian.PutUint16(udp[6:], netpkt.UDPChecksum(vnet.Sum(udp, shard.PseudoSum(key, n))))
	return b
}

// tellLinks tells the user what has become of interfaces.
func (e *Reflector) tellLinks(changes []multicast.Change) {
	for _, c := range changes {
		level, message := slog.LevelInfo, "an interface of --multicast is there again"
		switch {
		case c.Gone:
			level, message = slog.LevelWarn, "an interface of --multicast is gone; it is used again when it comes back"
		case c.Fault != nil:
			e.shard.Warn("an interface of --multicast is there again, but cannot be used", "error", c.Fault.Error())
			continue
		}
		e.shard.Worker.Raise(netbackend.Notice{Level: int(level), Message: message, Key: "interface", Value: c.Interface})
	}
}

// Listen has the worker watch the guest's Reflector, and StopListening undoes it.
func (e *Reflector) Listen() error {
	if e.reflector == nil {
		return nil
	}
	return e.shard.Worker.RegisterInput(e.reflector.FD(), shard.Token(shard.TokenNews, 0, NewsIndex))
}

// StopListening undoes Listen.
func (e *Reflector) StopListening() {
	if e.reflector != nil && e.shard.Worker != nil {
		e.shard.Worker.Unregister(e.reflector.FD())
	}
}

// Close ends the guest's Reflector with the last of its queue pairs.
func (e *Reflector) Close(last bool) {
	if e.shard.Listening {
		e.StopListening()
	}
	if last {
		CloseReflector(e.reflector)
	}
}

// CloseReflector closes what openGroups of a configuration has opened, which may be nil.
func CloseReflector(r *multicast.Reflector) {
	if r != nil {
		_ = r.Close() // which cannot fail
	}
}

// SetLoop sets whether programs of the host hear the guest's questions. Any thread may call it.
func (e *Reflector) SetLoop(loop bool) {
	if r := e.reflector; r != nil {
		r.SetLoop(loop)
	}
}

// Wake takes note that the Reflector may have something, IsDue reports whether it may.
func (e *Reflector) Wake() { e.groupNews.due = true }

// IsDue reports whether there may be something to receive.
func (e *Reflector) IsDue() bool { return e.groupNews.due }
