package nat

import (
	"encoding/binary"
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/services/arp"
	"github.com/vringnet/vring/netbackend/services/dhcp4"
	"github.com/vringnet/vring/netbackend/services/dhcp6"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/ndp"
	"github.com/vringnet/vring/virtqueue"
)

// The services here are rare, so they work on copies and may allocate.

// localServices answers the guest's messages of DHCP, in both versions of IP.
type localServices struct {
	link        *linkLayer
	fragments   *fragmenter
	leases      *leases // of the guest
	dhcpServer  *dhcp4.Server
	dhcp6Server *dhcp6.Server // nil if the guest has no network of IPv6
}

// setUp makes that of a queue pair. g are the guest's addresses.
func (e *localServices) setUp(link *linkLayer, fragments *fragmenter, g *leases, dhcpServer *dhcp4.Server, dhcp6Server *dhcp6.Server) {
	*e = localServices{link: link, fragments: fragments, leases: g, dhcpServer: dhcpServer, dhcp6Server: dhcp6Server}
}

// servers are what answers the guest in the engine's own name.
type servers struct {
	arp   *arp.Responder
	ndp   *ndp.Responder // nil if the guest has no network of IPv6
	dhcp  *dhcp4.Server
	dhcp6 *dhcp6.Server // nil if the guest has no network of IPv6
}

// newServers makes those of a configuration. search returns the domains in which the guest is to look names up; nil is none.
func newServers(cfg *Config, leases *leases, search func() []string) (s servers, err error) {
	s.arp = arp.New(cfg.GatewayMAC, cfg.Gateway, cfg.DNS)
	s.dhcp, err = dhcp4.New(dhcp4.Config{
		Guest: cfg.Guest, Server: cfg.Gateway, Prefix: cfg.Prefix, Router: cfg.Gateway,
		DNS: appendValid(nil, cfg.DNS), MTU: cfg.MTU, Hostname: cfg.Hostname, Domain: cfg.Domain,
		Search: search, More: cfg.Hosts, Book: leases.v4, LeaseTime: leaseTime,
	})
	if err != nil || !cfg.Prefix6.IsValid() {
		return s, err
	}
	s.ndp = ndp.New(ndp.Config{
		MAC: cfg.GatewayMAC, LinkLocal: guestnet.LinkLocal(cfg.GatewayMAC), Addrs: []netip.Addr{cfg.Gateway6, cfg.DNS6},
		Prefix: cfg.Prefix6, DNS: []netip.Addr{cfg.DNS6}, Search: search,
	})
	s.dhcp6 = dhcp6.New(dhcp6.Config{
		MAC: cfg.GatewayMAC, Guest: cfg.Guest6, Prefix: cfg.Prefix6, DNS: []netip.Addr{cfg.DNS6},
		Search: search, More: cfg.Hosts, Book: leases.v6,
	})
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
	return dns.New(dns.Config{
		Resolvers: cfg.Resolvers, File: cfg.resolvConf(), Read: cfg.ReadFile,
		Usable: func(a netip.Addr) bool { return a.Zone() == "" }, // our sockets' addresses name no link
	})
}

// resolvConf is the file that names resolvers if the user does not, "" for none.
func (c *Config) resolvConf() string {
	if c.Restrict {
		return "" // a resolver hands on what it is asked; only one that the user named may
	}
	return c.ResolvConf
}

// arp answers for the engine's addresses.
func (l *linkLayer) arp(t *shard.Turn, c *virtqueue.Chain) {
	if !t.Allow(limits.ARP) {
		return
	}
	frame := t.CopyFrame(c)
	if frame == nil {
		return
	}
	reply, sender, ok := l.arpServer.Answer(frame)
	if !ok {
		t.Counters.Malformed++
		return
	}
	if sender.IP.IsValid() && t.OtherGuests[ipaddr.From(sender.IP)] {
		t.Counters.Impostors++
		return
	}
	if sender.IP.IsValid() {
		a := ipaddr.From(sender.IP)
		t.LearnAddress(&a, t.Meet(hosts.PackMAC(sender.MAC)))
	}
	t.Reply(reply)
}

// ask asks where an address of the guest is (RFC 826, RFC 4861).
func (l *linkLayer) ask(t *shard.Turn, guest ipaddr.Addr) {
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

// askOnce is ask, unless that was done just now. What waits for the answer goes on when it is learned.
func (l *linkLayer) askOnce(t *shard.Turn, guest ipaddr.Addr) {
	if t.Hosts.MayAsk(&guest, t.Now) {
		l.ask(t, guest)
	}
}

// dhcp answers a DHCP or BOOTP message. length is that of UDP header and payload.
func (e *localServices) dhcp(t *shard.Turn, k *shard.Packet, length int) {
	if !t.Allow(limits.DHCP) {
		return
	}
	message := t.CopyPayload(k, length)
	if message == nil {
		return
	}
	if k.Src.IsUnicast() && t.Nets.Contains(&k.Src) {
		t.LearnAddress(&k.Src, t.From)
	}
	answer, ok := e.dhcpServer.Answer(t.Now, message)
	if !ok {
		return
	}
	e.leased(t, answer.Given, answer.Declined, answer.Ask)
	if answer.Message == nil || len(answer.Message) > t.MTU-netpkt.IPv4Len-netpkt.UDPLen {
		return
	}
	t.Reply(t.UDPFrame(answer.To.MAC, &flowtable.Key{
		Proto: netpkt.UDP, Remote: t.Nets.V4.Gateway, RemotePort: netpkt.DHCPServerPort,
		Guest: ipaddr.From(answer.To.IP), GuestPort: netpkt.DHCPClientPort,
	}, answer.Message))
}

// dhcp6 answers a message of DHCPv6. length is that of UDP header and payload.
func (e *localServices) dhcp6(t *shard.Turn, k *shard.Packet, length int) {
	if !t.Allow(limits.DHCP) {
		return
	}
	message := t.CopyPayload(k, length)
	if message == nil {
		return
	}
	mac := hosts.UnpackMAC(t.Hosts.MAC(t.From))
	answer, ok := e.dhcp6Server.Answer(t.Now, mac, message)
	if !ok {
		t.Counters.Malformed++
		return
	}
	e.leased(t, answer.Given, answer.Declined, answer.Ask)
	if answer.Message == nil || len(answer.Message) > e.fragments.longest(&k.Src) {
		return
	}
	t.Reply(t.UDPFrame(mac, &flowtable.Key{
		Proto: netpkt.UDP, Remote: t.Nets.LinkLocal, RemotePort: dhcp6.ServerPort, Guest: k.Src, GuestPort: dhcp6.ClientPort,
	}, answer.Message))
}
