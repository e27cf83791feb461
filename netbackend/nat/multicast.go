package nat

import (
	"encoding/binary"
	"log/slog"
	"net/netip"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/multicast"
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

// groupNews is what a queue pair remembers of its guest's Reflector.
type groupNews struct {
	due   bool   // there may be something to receive
	seen  uint16 // the number of changes of the host when the interfaces were looked at last
	frame []byte // scratch
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
		if s.Proto == protoUDP && s.Addr.IsValid() && (s.Port == multicast.MDNSPort || s.Port == multicast.SSDPPort) {
			return true
		}
	}
	return false
}

// toGroup handles a datagram of the guest to a group, and reports whether it was one for the host's networks.
func (p *Port) toGroup(k *packet) bool {
	if p.pairs.groups == nil || len(k.l4) < udpLen {
		return false
	}
	to := ipaddr.Endpoint{Addr: k.dst, Port: binary.BigEndian.Uint16(k.l4[2:])}
	group, ok := multicast.Of(to.Netip())
	from := ipaddr.Endpoint{Addr: k.src, Port: binary.BigEndian.Uint16(k.l4)}
	if !ok || from.Port == 0 || !k.src.IsUnicast() || p.nets.ours(&k.src) || k.src.IsLoopback() || k.src.Is4() != k.dst.Is4() {
		return false
	}
	if !p.afford(errandGroup) {
		return true
	}
	if !p.policy.permits(&to) {
		p.counters.Denied++
		return true
	}
	length := int(binary.BigEndian.Uint16(k.l4[4:]))
	if k.segment != 0 || k.assembled || length-udpLen > multicast.MaxPayload {
		p.counters.MulticastUnsent++
		return true
	}
	message := p.copyPayload(k, length)
	if message == nil {
		return true
	}
	p.learnAddress(&k.src, p.from)
	switch p.pairs.groups.Send(p.now, group, from.Netip(), message) {
	case multicast.Sent:
		p.counters.MulticastSent++
	case multicast.SentInstead:
		p.counters.MulticastSent++
		p.counters.MulticastAsksEvicted++
	case multicast.Kept:
		p.counters.MulticastKept++
	case multicast.Malformed:
		p.counters.Malformed++
	case multicast.Unsent:
		p.counters.MulticastUnsent++
	}
	return true
}

// permits reports whether rules leave a group, or a sender that is link-local, to the guest.
func (p *policy) permits(e *ipaddr.Endpoint) bool {
	if f := p.filters.match(protoUDP, e, e.Addr.IsLinkLocal()); f != nil {
		return f.allow
	}
	return !p.restrict
}

// mayAnswer reports whether the guest may hear of a sender of the host's networks.
func (p *Port) mayAnswer(d *multicast.Datagram) bool {
	from := ipaddr.EndpointFrom(d.From)
	if from.Addr.IsLinkLocal() {
		if d.Own {
			return p.policy.open[service{Endpoint: from, proto: protoUDP}]
		}
		return p.policy.permits(&from)
	}
	key := flowKey{remote: from.Addr, remotePort: from.Port, proto: protoUDP}
	_, v := p.policy.destination(&key)
	return v == allowed
}

// refreshGroups looks at the interfaces again if links or addresses of the host have changed.
func (p *Port) refreshGroups() {
	if p.pairs.groups == nil || !p.listening {
		return
	}
	if n := p.pairs.changes.Number(); n != p.groups.seen {
		p.groups.seen = n
		p.tellLinks(p.pairs.groups.Refresh())
	}
}

// receiveFromGroups takes what the networks of the host have for the guest. What is left over is taken in the next turn.
func (p *Port) receiveFromGroups() {
	if !p.listening {
		p.groups.due = false // whoever listens now is told as well
		return
	}
	for range multicastBurst {
		d := p.pairs.groups.Receive(p.now)
		if d.Kind == multicast.Nothing {
			p.groups.due = false
			return
		}
		p.fromGroup(&d)
	}
	p.again = true
}

// fromGroup handles a datagram of a network of the host.
func (p *Port) fromGroup(d *multicast.Datagram) {
	switch {
	case d.Kind == multicast.Question:
		p.counters.MulticastIgnored++
	case d.Kind == multicast.Stranger:
		p.counters.MulticastStrangers++
	case d.Kind == multicast.Distorted:
		p.counters.MulticastDistorted++
	case !p.mayAnswer(d):
		p.counters.MulticastDenied++
	case !p.afford(errandHeard):
	default:
		p.giveFromGroup(d)
	}
}

// giveFromGroup gives the guest a datagram of a network of the host. mDNS comes from the router, as from every reflector: an answer by
// unicast is to come from the guest's own link (RFC 6762 section 11). SSDP comes from the device, unless it has a link-local
// address, which on the guest's link would be another device's.
func (p *Port) giveFromGroup(d *multicast.Datagram) {
	key := flowKey{proto: protoUDP, remotePort: d.From.Port(), guestPort: d.To.Port()}
	p.to = anyHost
	var mac uint64
	if d.Asked {
		key.guest = ipaddr.EndpointFrom(d.To).Addr
		p.to = p.hosts.user(&key.guest)
		mac = p.hosts.mac(p.to)
	} else {
		group := d.Group.Address(d.Is6)
		key.guest, key.guestPort = ipaddr.From(group), d.Group.Port()
		mac = groupMAC(group)
	}
	key.remote = ipaddr.From(d.From.Addr())
	router := &p.nets.v4.gateway
	if d.Is6 {
		router = &p.nets.linkLocal
	}
	if d.Group == multicast.MDNS || key.remote.IsLinkLocal() {
		key.remote = *router
	}
	if udpLen+len(d.Payload)+key.guest.HeaderLen() > p.mtu {
		p.counters.MulticastDistorted++
		return
	}
	if !p.receiving || !p.send(p.groupFrame(mac, &key, d)) {
		p.counters.NoRoom++
		return
	}
	p.counters.MulticastReceived++
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
func (p *Port) groupFrame(mac uint64, key *flowKey, d *multicast.Datagram) []byte {
	n := udpLen + len(d.Payload)
	if p.groups.frame == nil {
		p.groups.frame = make([]byte, etherLen+ipv6Len+udpLen+multicast.MaxPayload)
	}
	b := p.groups.frame[:udpHeaders(&key.guest)+len(d.Payload)]
	headers := p.putIP(b, &key.remote, &key.guest, protoUDP, n)
	putMAC(b, mac)
	if d.Group == multicast.MDNS {
		putArrival(hostsock.Arrival{HopLimit: multicast.MDNSHops}, b[etherLen:headers])
	}
	udp := b[headers:]
	putUDP(udp, key.remotePort, key.guestPort, n)
	copy(udp[udpLen:], d.Payload)
	binary.BigEndian.PutUint16(udp[6:], udpChecksum(vnet.Sum(udp, key.pseudoSum(n))))
	return b
}

// tellLinks tells the user what has become of interfaces.
func (p *Port) tellLinks(changes []multicast.Change) {
	for _, c := range changes {
		level, message := slog.LevelInfo, "an interface of --multicast is there again"
		switch {
		case c.Gone:
			level, message = slog.LevelWarn, "an interface of --multicast is gone; it is used again when it comes back"
		case c.Fault != nil:
			p.warn("an interface of --multicast is there again, but cannot be used", "error", c.Fault.Error())
			continue
		}
		p.worker.Raise(netbackend.Notice{Level: int(level), Message: message, Key: "interface", Value: c.Interface})
	}
}

// listenToGroups has the worker watch the guest's Reflector, and stopListeningToGroups undoes it.
func (p *Port) listenToGroups() error {
	if p.pairs.groups == nil {
		return nil
	}
	return p.worker.RegisterInput(p.pairs.groups.FD(), token(tokenNews, 0, newsOfGroups))
}

func (p *Port) stopListeningToGroups() {
	if p.pairs.groups != nil && p.worker != nil {
		p.worker.Unregister(p.pairs.groups.FD())
	}
}

// closeGroups ends the guest's Reflector with the last of its queue pairs.
func (p *Port) closeGroups(last bool) {
	if p.listening {
		p.stopListeningToGroups()
	}
	if last {
		closeGroups(p.pairs.groups)
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
