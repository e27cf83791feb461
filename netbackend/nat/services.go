package nat

import (
	"encoding/binary"
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/services/arp"
	"github.com/vringnet/vring/netbackend/services/dhcp4"
	"github.com/vringnet/vring/netbackend/services/dhcp6"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/ndp"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// services are the protocols that the engine answers itself. They are rare, so they work on copies and may allocate.
type services struct {
	arp  *arp.Responder
	dhcp *dhcp4.Server
	dns  *dns.Relay
	// Both are nil if the guest has no network of IPv6.
	ndp   *ndp.Responder
	dhcp6 *dhcp6.Server
}

const (
	dhcpServerPort = 67
	dhcpClientPort = 68
)

// newServices makes the services of a queue pair. now is its clock.
func newServices(cfg *Config, leases *leases, relay *dns.Relay, now func() int64) (services, error) {
	search := searchList(cfg, func() []string { return relay.Search(now()) })
	server, err := dhcp4.New(dhcp4.Config{
		Guest: cfg.Guest, Server: cfg.Gateway, Prefix: cfg.Prefix, Router: cfg.Gateway,
		DNS: appendValid(nil, cfg.DNS), MTU: cfg.MTU, Hostname: cfg.Hostname, Domain: cfg.Domain,
		Search: search, More: cfg.Hosts, Book: leases.v4, LeaseTime: leaseTime,
	})
	if err != nil {
		return services{}, err
	}
	s := services{
		arp:  arp.New(cfg.GatewayMAC, cfg.Gateway, cfg.DNS),
		dhcp: server,
		dns:  relay,
	}
	if cfg.Prefix6.IsValid() {
		s.ndp = ndp.New(ndp.Config{
			MAC: cfg.GatewayMAC, LinkLocal: linkLocal(cfg.GatewayMAC), Addrs: []netip.Addr{cfg.Gateway6, cfg.DNS6},
			Prefix: cfg.Prefix6, DNS: []netip.Addr{cfg.DNS6}, Search: search,
		})
		s.dhcp6 = dhcp6.New(dhcp6.Config{
			MAC: cfg.GatewayMAC, Guest: cfg.Guest6, Prefix: cfg.Prefix6, DNS: []netip.Addr{cfg.DNS6},
			Search: search, More: cfg.Hosts, Book: leases.v6,
		})
	}
	return s, nil
}

// searchList returns what tells in which domains names are looked up: those of the configuration, or its domain, or those of the
// host, which may change.
func searchList(cfg *Config, hosts func() []string) func() []string {
	switch {
	case cfg.NoSearch:
		return nil
	case len(cfg.Search) > 0:
		return func() []string { return cfg.Search }
	case cfg.Domain != "":
		return func() []string { return []string{cfg.Domain} }
	}
	return hosts
}

// newRelay makes what knows the resolvers, which all queue pairs of a guest share.
func newRelay(cfg *Config) *dns.Relay {
	file := cfg.ResolvConf
	if cfg.Restrict {
		file = "" // a resolver hands on what it is asked; only one that the user named may
	}
	return dns.New(dns.Config{
		Resolvers: cfg.Resolvers, File: file, Read: cfg.ReadFile,
		Usable: func(a netip.Addr) bool { return a.Zone() == "" }, // our sockets' addresses name no link
	})
}

// arp answers for the engine's addresses.
func (p *Port) arp(c *virtqueue.Chain) {
	if !p.afford(errandARP) {
		return
	}
	frame := p.copyFrame(c)
	if frame == nil {
		return
	}
	reply, sender, ok := p.services.arp.Answer(frame)
	if !ok {
		p.counters.Malformed++
		return
	}
	if sender.IP.IsValid() && p.others[ipaddr.From(sender.IP)] {
		p.counters.Impostors++
		return
	}
	if sender.IP.IsValid() {
		a := ipaddr.From(sender.IP)
		p.learnAddress(&a, p.meet(packMAC(sender.MAC)))
	}
	p.reply(reply)
}

// reply sends an answer of a service, if there is one. Whoever asked will ask again if it is lost.
func (p *Port) reply(frame []byte) {
	if frame != nil && !p.send(frame) {
		p.counters.NoRoom++
	}
}

// ask asks where an address of the guest is (RFC 826, RFC 4861).
func (p *Port) ask(guest ipaddr.Addr) {
	if !guest.Is4() {
		p.reply(p.services.ndp.Ask(guest.Netip()))
		return
	}
	b := p.template[:etherLen+28]
	for i := range 6 {
		b[i] = 0xff
	}
	copy(b[6:], p.cfg.GatewayMAC[:])
	binary.BigEndian.PutUint16(b[12:], etherARP)
	// Ethernet, IPv4, the lengths of their addresses, a request.
	copy(b[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[22:], p.cfg.GatewayMAC[:])
	copy(b[28:], p.nets.v4.gateway.Bytes())
	clear(b[32:38])
	copy(b[38:], guest.Bytes())
	p.reply(b)
}

// askOnce is ask, unless that was done just now. What waits for the answer goes on when it is learned.
func (p *Port) askOnce(guest ipaddr.Addr) {
	if p.hosts.mayAsk(&guest, p.now) {
		p.ask(guest)
	}
}

// copyPayload copies the payload of a datagram, whose length with the UDP header is that, for those who are in no hurry. nil if
// the frame is too long.
func (p *Port) copyPayload(k *packet, length int) []byte {
	start := k.l4Offset - p.headerLen
	frame := p.copyFrame(k.chain)
	if frame == nil {
		return nil
	}
	return frame[start+udpLen : start+length]
}

// forDHCP tells whether a datagram to the DHCP port is for us.
func (p *Port) forDHCP(k *packet) bool {
	return k.dst == ipaddr.From4([]byte{255, 255, 255, 255}) || k.dst.Is4() && p.nets.ours(&k.dst)
}

// dhcp answers a DHCP or BOOTP message. length is that of UDP header and payload.
func (p *Port) dhcp(k *packet, length int) {
	if !p.afford(errandDHCP) {
		return
	}
	message := p.copyPayload(k, length)
	if message == nil {
		return
	}
	if k.src.IsUnicast() && p.nets.contains(&k.src) {
		p.learnAddress(&k.src, p.from)
	}
	answer, ok := p.services.dhcp.Answer(p.now, message)
	if !ok {
		return
	}
	p.leased(answer.Given, answer.Declined, answer.Ask)
	if answer.Message == nil || len(answer.Message) > p.mtu-ipv4Len-udpLen {
		return
	}
	p.reply(p.udpFrame(answer.To.MAC, &flowKey{
		proto: protoUDP, remote: p.nets.v4.gateway, remotePort: dhcpServerPort,
		guest: ipaddr.From(answer.To.IP), guestPort: dhcpClientPort,
	}, answer.Message))
}

// forDHCP6 tells whether a datagram is one for DHCPv6 servers. They are sought on the guest's link, by its address there.
func (p *Port) forDHCP6(k *packet) bool {
	return binary.BigEndian.Uint16(k.l4[2:]) == dhcp6.ServerPort && k.src.IsLinkLocal() && k.dst == ipaddr.From(dhcp6.Servers)
}

// dhcp6 answers a message of DHCPv6. length is that of UDP header and payload.
func (p *Port) dhcp6(k *packet, length int) {
	if !p.afford(errandDHCP) {
		return
	}
	message := p.copyPayload(k, length)
	if message == nil {
		return
	}
	mac := unpackMAC(p.hosts.mac(p.from))
	answer, ok := p.services.dhcp6.Answer(p.now, mac, message)
	if !ok {
		p.counters.Malformed++
		return
	}
	p.leased(answer.Given, answer.Declined, answer.Ask)
	if answer.Message == nil || len(answer.Message) > p.longest(&k.src) {
		return
	}
	p.reply(p.udpFrame(mac, &flowKey{
		proto: protoUDP, remote: p.nets.linkLocal, remotePort: dhcp6.ServerPort, guest: k.src, guestPort: dhcp6.ClientPort,
	}, answer.Message))
}

// isQuery tells whether a flow is one to the name server.
func (p *Port) isQuery(key *flowKey) bool {
	return key.remotePort == dnsPort && p.nets.isDNS(&key.remote)
}

// udpFrame builds a datagram to the guest, from the remote end of key.
func (p *Port) udpFrame(mac [6]byte, key *flowKey, payload []byte) []byte {
	b := make([]byte, udpHeaders(&key.guest)+len(payload))
	n := udpLen + len(payload)
	udp := b[p.putIP(b, &key.remote, &key.guest, protoUDP, n):]
	copy(b, mac[:])
	putUDP(udp, key.remotePort, key.guestPort, n)
	copy(udp[udpLen:], payload)
	binary.BigEndian.PutUint16(udp[6:], udpChecksum(vnet.Sum(udp, key.pseudoSum(n))))
	return b
}
