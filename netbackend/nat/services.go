package nat

import (
	"net/netip"
	"slices"

	"github.com/vringnet/vring/netbackend/nat/internal/dhcp"
	"github.com/vringnet/vring/netbackend/services/arp"
	"github.com/vringnet/vring/netbackend/services/dhcp4"
	"github.com/vringnet/vring/netbackend/services/dhcp6"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/ndp"
)

// servers are what answers the guest in the engine's own name.
type servers struct {
	arp   *arp.Responder
	ndp   *ndp.Responder // nil if the guest has no network of IPv6
	dhcp  *dhcp4.Server
	dhcp6 *dhcp6.Server // nil if the guest has no network of IPv6
}

// newServers makes those of a configuration. search returns the domains in which the guest is to look names up; nil is none.
func newServers(cfg *Config, leases *dhcp.Leases, search func() []string) (s servers, err error) {
	s.arp = arp.New(cfg.GatewayMAC, appendValid([]netip.Addr{cfg.Gateway}, cfg.DNS)...)
	others6 := netip.Addr{}
	if cfg.Shared {
		s.arp.AnswerForAllBut(cfg.Guest)
		others6 = cfg.Guest6
	}
	s.dhcp, err = dhcp4.New(dhcp4.Config{
		Guest: cfg.Guest, Server: cfg.Gateway, Prefix: cfg.Prefix, Router: cfg.Gateway,
		DNS: cfg.nameServers(true), MTU: cfg.MTU, Hostname: cfg.Hostname, Domain: cfg.Domain,
		Search: search, More: cfg.Hosts, Book: leases.V4, LeaseTime: leaseTime,
	})
	if err != nil || !cfg.Prefix6.IsValid() {
		return s, err
	}
	s.ndp = ndp.New(ndp.Config{
		MAC: cfg.GatewayMAC, LinkLocal: cfg.linkLocal6(), Addrs: appendValid([]netip.Addr{cfg.Gateway6}, cfg.DNS6),
		Prefix: cfg.Prefix6, DNS: cfg.nameServers(false), Search: search,
		Guest: others6, Silent: cfg.lacks(RouterAdvertisements), Stateless: cfg.lacks(DHCPv6),
	})
	s.dhcp6 = dhcp6.New(dhcp6.Config{
		MAC: cfg.GatewayMAC, Guest: cfg.Guest6, Prefix: cfg.Prefix6, DNS: cfg.nameServers(false),
		Search: search, More: cfg.Hosts, Book: leases.V6,
	})
	return s, nil
}

// searchList returns what tells in which domains names are looked up: those of the configuration, or its domain, or those of the
// host, which may change.
func searchList(cfg *Config, hosts func() []string) func() []string {
	if cfg.Neighbour.LAN != nil && !cfg.NoSearch && len(cfg.Search) == 0 {
		alone := *cfg
		alone.Neighbour = Neighbour{}
		rest := searchList(&alone, hosts)
		return func() []string { return append(slices.Clone(rest()), ownZone) }
	}
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
func newRelay(cfg *Config) *dns.Split {
	rest := dns.New(dns.Config{
		Servers: cfg.Resolvers, File: cfg.resolvConf(), Read: cfg.ReadFile,
		Usable: func(a netip.Addr) bool { return a.Zone() == "" }, // our sockets' addresses name no link
	})
	return dns.NewSplit(rest, cfg.Split)
}

// resolvConf is the file that names resolvers if the user does not, "" for none.
func (c *Config) resolvConf() string {
	if !c.AsksHostsResolvers() {
		return ""
	}
	return c.ResolvConf
}
