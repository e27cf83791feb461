package nat

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

// newsOfGroups is the index, in tokens of news, of what the Reflector has; 0 is that of the news of routes.
const newsOfGroups = 1

// groupReflector passes multicast between the guest and networks of the host.
type groupReflector struct {
	shard     *shard.Shard
	policy    *policy.Policy
	reflector *multicast.Reflector // of the guest; nil without Config.Multicast
	groupNews groupNews
}

// groupNews is what a queue pair remembers of its guest's Reflector.
type groupNews struct {
	due   bool   // there may be something to receive
	seen  uint16 // the number of changes of the host when the interfaces were looked at last
	frame []byte // scratch
}

// setUp makes that of a queue pair.
func (e *groupReflector) setUp(s *shard.Shard, policy *policy.Policy, r *multicast.Reflector) {
	*e = groupReflector{shard: s, policy: policy, reflector: r}
}

// openGroups opens what Config.Multicast needs; nil if it needs nothing.
func (c *Config) openGroups() (*multicast.Reflector, error) {
	if len(c.Multicast) == 0 {
		return nil, nil
	}
	return multicast.Open(multicast.Config{Interfaces: c.Multicast, IPv6: c.Prefix6.IsValid(), Loop: c.opensDiscovery()})
}

// opensDiscovery reports whether the guest may use a service of the host that answers mDNS or SSDP. If not, programs of the host
// are not to hear its questions.
func (c *Config) opensDiscovery() bool {
	for _, s := range c.AllowHost {
		if s.Proto == netpkt.UDP && s.Addr.IsValid() && (s.Port == multicast.MDNSPort || s.Port == multicast.SSDPPort) {
			return true
		}
	}
	return false
}

// toGroup handles a datagram of the guest to a group, and reports whether it was one for the host's networks.
func (e *groupReflector) toGroup(t *shard.Turn, k *shard.Packet) bool {
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
		t.Counters.MulticastUnsent++
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
		t.Counters.MulticastKept++
	case multicast.Malformed:
		t.Counters.Malformed++
	case multicast.Unsent:
		t.Counters.MulticastUnsent++
	}
	return true
}

// mayAnswer reports whether the guest may hear of a sender of the host's networks.
func (e *groupReflector) mayAnswer(d *multicast.Datagram) bool {
	from := policy.Destination{Endpoint: ipaddr.EndpointFrom(d.From), Proto: netpkt.UDP}
	if from.Addr.IsLinkLocal() {
		if d.Own {
			return e.policy.Opens(from)
		}
		return e.policy.Permits(from)
	}
	_, v := e.policy.Judge(from)
	return v == policy.Allowed
}

// refreshGroups looks at the interfaces again if links or addresses of the host have changed: changes is another number then.
func (e *groupReflector) refreshGroups(changes uint16) {
	if e.reflector == nil || !e.shard.Listening {
		return
	}
	if changes != e.groupNews.seen {
		e.groupNews.seen = changes
		e.tellLinks(e.reflector.Refresh())
	}
}

// receiveFromGroups takes what the networks of the host have for the guest. What is left over is taken in the next turn.
func (e *groupReflector) receiveFromGroups(t *shard.Turn) {
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
func (e *groupReflector) fromGroup(t *shard.Turn, d *multicast.Datagram) {
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
func (e *groupReflector) giveFromGroup(t *shard.Turn, d *multicast.Datagram) {
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
		t.Counters.NoRoom++
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
func (e *groupReflector) groupFrame(t *shard.Turn, mac uint64, key *flowtable.Key, d *multicast.Datagram) []byte {
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
func (e *groupReflector) tellLinks(changes []multicast.Change) {
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

// listenToGroups has the worker watch the guest's Reflector, and stopListeningToGroups undoes it.
func (e *groupReflector) listenToGroups() error {
	if e.reflector == nil {
		return nil
	}
	return e.shard.Worker.RegisterInput(e.reflector.FD(), shard.Token(shard.TokenNews, 0, newsOfGroups))
}

func (e *groupReflector) stopListeningToGroups() {
	if e.reflector != nil && e.shard.Worker != nil {
		e.shard.Worker.Unregister(e.reflector.FD())
	}
}

// closeGroups ends the guest's Reflector with the last of its queue pairs.
func (e *groupReflector) closeGroups(last bool) {
	if e.shard.Listening {
		e.stopListeningToGroups()
	}
	if last {
		closeGroups(e.reflector)
	}
}

func closeGroups(r *multicast.Reflector) {
	if r != nil {
		_ = r.Close() // which cannot fail
	}
}

// groupFiles is how many descriptors Config.Multicast takes.
func (c *Config) groupFiles() int {
	if len(c.Multicast) == 0 {
		return 0
	}
	return multicast.Files(len(c.Multicast))
}

// setLoop sets whether programs of the host hear the guest's questions. Any thread may call it.
func (e *groupReflector) setLoop(loop bool) {
	if r := e.reflector; r != nil {
		r.SetLoop(loop)
	}
}

// wake takes note that the Reflector may have something, isDue reports whether it may.
func (e *groupReflector) wake()       { e.groupNews.due = true }
func (e *groupReflector) isDue() bool { return e.groupNews.due }
