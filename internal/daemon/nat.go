package daemon

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/netbackend/uplink"
	"github.com/vringnet/vring/netbackend/worker"
)

// NAT is a network of the guests' own behind the host's. DefaultNAT gives values that work.
type NAT struct {
	// Network is that of all guests in IPv4, from /8 to /27: the router is .2, the name server .3, the first guest .15.
	Network netip.Prefix `option:"network" default:"10.0.2.0/24" fixed:"guests hold addresses of it"`
	// Network6 is that of IPv6, a /64: the router is ::2, the name server ::3. The zero Prefix is the default one, where the
	// host knows IPv6 and the MTU leaves room for it.
	Network6 netip.Prefix `option:"network6" default:"fd00:10:0:2::/64" fixed:"guests hold addresses of it"`
	// NoIPv6 is that there is none.
	NoIPv6 bool `option:"network6" fixed:"guests hold addresses of it"`
	// GuestAddresses are those of the first guest, Routers those of the router, and Relays where the process answers for names: one of each
	// version of IP, if they are not to follow from the networks. NoRelay is that names are answered for nowhere. With a router that is not in
	// Network, DHCP tells that it is on the guest's link.
	GuestAddresses []netip.Addr `option:"guest-address" fixed:"guests hold them"`
	Routers        []netip.Addr `option:"router" fixed:"guests route by them"`
	Relays         []netip.Addr `option:"dns-relay" fixed:"guests ask there"`
	NoRelay        bool         `option:"dns-relay" fixed:"guests ask there"`
	// NameServers are those that guests are told of, instead of where the process answers itself. NoNameServers tells of none.
	NameServers   []netip.Addr `option:"name-server" fixed:"DHCP answers with what was configured when a guest was opened"`
	NoNameServers bool         `option:"name-server" fixed:"DHCP answers with what was configured when a guest was opened"`
	// RouterMAC is the hardware address of the router; nil is one that is made of its address of IPv4.
	RouterMAC net.HardwareAddr `option:"router-mac" fixed:"guests have learned it"`
	// Shared is that the networks are some of the host's: their other addresses are those of hosts there, which guests reach by the host. The
	// router is one of them, but for what AllowHost opens at its address.
	Shared bool `option:"shared-network" fixed:"guests have learned where their neighbours are"`
	// Without are protocols that guests do not have.
	Without []nat.Protocol `option:"without" fixed:"guests were told of some of them"`
	// MTU is that of the guests, which DHCP and router advertisements announce; 576 to 65520.
	MTU int `option:"mtu" unit:"bytes" default:"1500" fixed:"guests were told, and connections agreed on their segments"`

	// Hostname and Domain are what DHCP announces to guests; "" is not announced.
	Hostname string `option:"hostname" fixed:"DHCP answers with what was configured when a guest was opened"`
	Domain   string `option:"domain" fixed:"DHCP answers with what was configured when a guest was opened"`
	// Search are the domains in which guests look names up. If there are none, Domain is the only one; without it they are the
	// host's. NoSearch announces none at all.
	Search   []string `option:"search" fixed:"DHCP answers with what was configured when a guest was opened"`
	NoSearch bool     `option:"search" fixed:"DHCP answers with what was configured when a guest was opened"`
	// Leases are addresses of certain hosts.
	Leases []hostconf.Lease `option:"lease" fixed:"DHCP answers with what was configured when a guest was opened"`
	// Routes are routes of IPv4 by other hosts of the network.
	Routes []hostconf.Route `option:"route" fixed:"DHCP answers with what was configured when a guest was opened"`
	// NTP are time servers, of either version of IP.
	NTP []netip.Addr `option:"ntp" fixed:"DHCP answers with what was configured when a guest was opened"`
	// BootFiles are what guests boot from the network, and BootServers where: one for each version of IP.
	BootServers []netip.Addr        `option:"boot-server" fixed:"DHCP answers with what was configured when a guest was opened"`
	BootFiles   []hostconf.BootFile `option:"boot-file" fixed:"DHCP answers with what was configured when a guest was opened"`
	// BootRoot is a directory with files that guests boot from, which their router gives out by TFTP.
	BootRoot string `option:"tftp" unit:"directory" fixed:"the sandbox reaches no file"`
	// Options and Options6 are further options of DHCP and DHCPv6.
	Options  []hostconf.Option `option:"dhcp-option" fixed:"DHCP answers with what was configured when a guest was opened"`
	Options6 []hostconf.Option `option:"dhcp6-option" fixed:"DHCP answers with what was configured when a guest was opened"`

	// Forwards lead from the host into the guest whose address they name, or into the first one.
	Forwards []spec.Forward `option:"forward" live:"a listener is added or closed, and connections stay"`
	// Expose lets forwards that are added while guests are served listen at all addresses of the host, not at its loopback only.
	Expose bool `option:"expose" fixed:"the broker is told at the start what it may open"`
	// AllowHost are the services of the host that are open to guests.
	AllowHost []spec.HostService `option:"allow-host" live:"flows are judged again, and end if they are closed"`
	// Rules open and close the rest; the first that matches decides.
	Rules []spec.Rule `option:"allow,deny,allow-name,deny-name" live:"flows are judged again, and end if they are closed"`
	// NameGroups are names that Rules name together.
	NameGroups []spec.NameGroup `option:"name-group" live:"flows are judged again, and end if they are closed"`
	// RefuseNames is what guests are told of names that Rules refuse.
	RefuseNames nat.Refusal `option:"refuse-names" default:"refused" live:"the next query is answered so"`
	// Restrict closes all that Rules and AllowHost do not open, and lets Resolvers only be asked, unless Rules allow names.
	Restrict bool `option:"restrict" live:"flows are judged again, and end if they are closed"`
	// Redirects lead what guests send to some destinations to others, which may be the host's own.
	Redirects []spec.Redirect `option:"redirect" live:"flows are judged again, and new ones are led there"`
	// Via is the proxy by which connections of TCP leave of which no rule says otherwise. What is not TCP is closed then.
	Via spec.Proxy `option:"via" live:"connections that begin then leave by it, and others go on"`
	// OutboundInterface is the interface that guests' packets leave by of which no rule says otherwise, and OutboundInterface4 and
	// OutboundInterface6 are it for one version of IP, in its place.
	OutboundInterface  string `option:"outbound-interface" live:"flows that begin then leave by it, and others go on; the sandbox allows it only if some interface is there at the start"`
	OutboundInterface4 string `option:"outbound-interface4" live:"flows that begin then leave by it, and others go on; the sandbox allows it only if some interface is there at the start"`
	OutboundInterface6 string `option:"outbound-interface6" live:"flows that begin then leave by it, and others go on; the sandbox allows it only if some interface is there at the start"`
	// OutboundAddresses are the source addresses that guests' packets leave with of which no rule says otherwise, one for each version of IP.
	OutboundAddresses []netip.Addr `option:"outbound-address" live:"flows that begin then leave with it, and others go on; the sandbox allows it only if some address is there at the start"`
	// Names are answered without a resolver, in zones for which none is asked.
	Names []dnszone.Entry `option:"dns-name" live:"the next query is answered so"`
	// Resolvers are asked for names instead of the host's, if there are any.
	Resolvers []dns.Server `option:"dns" live:"the next query goes there"`
	// Split are domains for which other resolvers are asked, and those for nothing else.
	Split []dns.Route `option:"dns-for" live:"the next query goes there"`

	// DNSCache keeps answers of resolvers, for each guest its own.
	DNSCache bool `option:"dns-cache" fixed:"queries that are under way know whether their answers are kept"`

	// Measure lets the router answer to echo, discard and chargen, by which a guest measures its link.
	Measure bool `option:"measure" fixed:"whether a destination is the router's own is known to each thread of a guest from its start"`

	// EndpointIndependent gives each UDP port of a guest one port of the host, whatever the destination (RFC 4787).
	EndpointIndependent bool `option:"udp-endpoint-independent" fixed:"peers know the ports that guests have"`
	// UDPFiltering is who may send to a UDP port of a guest that has sent something. All but the zero value imply
	// EndpointIndependent.
	UDPFiltering nat.Filtering `option:"udp-filtering" default:"address-and-port-dependent" fixed:"peers know the ports that guests have"`
	// Multicast are interfaces of the host in whose networks guests find services by mDNS and SSDP, four at most.
	Multicast []string `option:"multicast" fixed:"the sandbox allows what it needs if it is there at the start"`
	// Queues is how many queue pairs each guest can use, each of which has a thread.
	Queues int `option:"queues" default:"1" fixed:"guests have negotiated them"`
	// ReconnectGrace is how long connections outlive the front end, which may come back; 0 resets them at once.
	ReconnectGrace time.Duration `option:"reconnect-grace" unit:"duration" fixed:"queue pairs of a guest have agreed on it when it was opened"`
}

// DefaultNAT is the network that users of QEMU know.
func DefaultNAT() NAT {
	return NAT{Network: netip.MustParsePrefix("10.0.2.0/24"), MTU: 1500, Queues: 1}
}

// engine is the configuration of the first guest's engine. The error holds all that is wrong.
func (n *NAT) engine(shares *nat.Shares) (nat.Config, error) {
	c := shares.Usual()
	c.MTU, c.Hostname, c.Domain = n.MTU, n.Hostname, n.Domain
	c.Search, c.NoSearch = n.Search, n.NoSearch
	c.Hosts = hostconf.Config{
		NTP: n.NTP, Routes: n.Routes, BootServers: n.BootServers, BootFiles: n.BootFiles,
		Options: n.Options, Options6: n.Options6, Leases: n.Leases,
	}
	c.Forwards, c.AllowHost, c.Rules, c.Restrict, c.Resolvers = n.Forwards, n.AllowHost, n.Rules, n.Restrict, n.Resolvers
	c.Redirects, c.Names, c.Split = n.Redirects, n.Names, n.Split
	c.NameGroups, c.RefuseNames = n.NameGroups, n.RefuseNames
	c.Way = n.Way()
	c.EndpointIndependent, c.UDPFiltering = n.EndpointIndependent, n.UDPFiltering
	c.Multicast, c.DNSCache, c.Measure = n.Multicast, n.DNSCache, n.Measure
	c.Queues, c.ReconnectGrace, c.BootRoot = n.Queues, n.ReconnectGrace, n.BootRoot
	c.Shared, c.Without, c.NoNameServers = n.Shared, n.Without, n.NoNameServers
	var errs *multierror.Error
	if !n.isSet(true) && n.Network.IsValid() {
		errs = multierror.Append(errs, c.SetNetwork(n.Network))
	}
	errs = multierror.Append(errs, n.setNetwork6(&c, shares.HasIPv6()), n.checkSearch(), n.setAddresses(&c), n.setBootRoot(&c), c.Check())
	return c, errs.ErrorOrNil()
}

// setNetwork6 gives c the network of IPv6. If none was chosen, it is left out where the host knows no IPv6, and where the MTU
// leaves no room for it.
func (n *NAT) setNetwork6(c *nat.Config, hostHasIt bool) error {
	fits := n.MTU >= nat.MinMTU6
	switch chosen := n.Network6.IsValid(); {
	case n.NoIPv6 && chosen:
		return faultf("%s %s and no IPv6 exclude each other", optionNetwork6, n.Network6)
	case n.NoIPv6, !chosen && !fits:
		return c.SetNetwork6(netip.Prefix{})
	case !chosen:
		return nil
	case !hostHasIt:
		return faultf("%s %s: the host's kernel has no IPv6; leave it out, or write %s off", optionNetwork6, n.Network6, optionNetwork6)
	case !fits:
		return faultf("%s %s: IPv6 needs %s %d or more", optionNetwork6, n.Network6, optionMTU, nat.MinMTU6)
	}
	return c.SetNetwork6(n.Network6)
}

func (n *NAT) checkSearch() error {
	if n.NoSearch && len(n.Search) > 0 {
		return faultf("%s none and %s %s exclude each other", optionSearch, optionSearch, n.Search[0])
	}
	return nil
}

// engines are the configurations of all guests' engines. The error holds all that is wrong.
func (n *NAT) engines(p places) ([]nat.Config, error) {
	c, err := n.engine(p.shares)
	c.Others = p.taken
	var all []nat.Config
	var tooMany error
	if p.later {
		all, tooMany = c.ForLater(p.shares)
	} else {
		all, tooMany = c.ForGuestsOf(p.shares, max(len(p.sockets), 1))
	}
	return all, multierror.Append(nil, err, tooMany).ErrorOrNil()
}

func (n *NAT) check(p places) (plan, error) {
	configs, err := n.engines(p)
	return &natPlan{configs, p.name, p.lan}, err
}

// natPlan is an engine for each guest, and a port of a switch if they are on one.
type natPlan struct {
	configs []nat.Config
	name    string  // of the only guest; "" for none of its own
	lan     *Switch // nil for none
}

func (p *natPlan) names() (all []string) {
	for i := range p.configs {
		all = append(all, p.configs[i].Guest.String())
	}
	return all
}

// open opens an engine for each guest, or none.
func (p *natPlan) open(d *Daemon) (opened, error) {
	configs := p.configs
	o := opened{needs: p.needs(), duties: natDuties(configs), engines: configs}
	lan, err := p.onSwitch(d)
	if err != nil {
		return opened{}, err
	}
	o.files = forwardFiles(configs)
	var errs *multierror.Error
	for _, c := range configs {
		c.ReadFile, c.KeepFiles, c.Routes = d.broker.ReadFile, d.broker.Removes, d.broker.OpenRoutes
		recorder := d.audit.add(c.Guest.String())
		c.BootFile = d.bootFiles(c.BootRoot)
		c.Pings, c.DNSRoots, c.Audit = d.broker.OpenPing, d.roots, func() *audit.Recorder { return recorder }
		c.Neighbour = p.neighbour(lan)
		g, err := p.openGuest(c, lan)
		if err != nil {
			d.audit.remove(recorder)
			errs = multierror.Append(errs, err)
			continue
		}
		g.recorder = recorder
		o.guests = append(o.guests, g)
	}
	if errs == nil {
		return o, nil
	}
	return opened{}, multierror.Append(errs, closeAll(o.guests))
}

// needs are what the sandbox must leave the engines.
func (p *natPlan) needs() sandbox.Config {
	c := &p.configs[0]
	return sandbox.Config{Internet: true, Multicast: len(c.Multicast) > 0, Devices: anyWay(c.Way, c.Rules, hasDevice), Sources: anyWay(c.Way, c.Rules, hasSource)}
}

// forwardFiles are the unix sockets of forwards.
func forwardFiles(configs []nat.Config) (paths []string) {
	for _, c := range configs {
		for _, f := range c.Forwards {
			if f.Path != "" {
				paths = append(paths, f.CleanPath())
			}
		}
	}
	return paths
}

// natDuties is what the broker does for the engines: it reads the host's resolvers, if they are asked.
func natDuties(configs []nat.Config) (duties broker.Duties) {
	if c := &configs[0]; readsResolvConf(c) {
		duties.Read = c.ResolvConf
	}
	if root := configs[0].BootRoot; root != "" {
		duties.BootRoots = []string{root}
	}
	return duties
}

// readsResolvConf reports whether the host's own resolvers are asked.
func readsResolvConf(c *nat.Config) bool { return len(c.Resolvers) == 0 && c.AsksHostsResolvers() }

// openGuest opens the engine of a guest, and its port of a switch if that is not nil.
func (p *natPlan) openGuest(c nat.Config, lan *oneSwitch) (guest, error) {
	pairs, err := nat.NewPairs(c)
	if err != nil {
		return guest{}, err
	}
	if lan == nil {
		return natGuest(c, pairs), nil
	}
	port, err := lan.connect(p.lan, pairs[0])
	if err != nil {
		return guest{}, errors.Join(err, pairs[0].Close())
	}
	g := natGuest(c, pairs)
	g.network.Switch = clone(p.lan)
	g.ports, g.counters = []netbackend.Port{port}, []counting.Source{counting.From(port.Counters)}
	return g, nil
}

// engineOf is the engine that a Port of a guest behind NAT is, or has.
func engineOf(p netbackend.Port) *nat.Port {
	if u, onSwitch := p.(*uplink.Port); onSwitch {
		return u.Engine()
	}
	return p.(*nat.Port)
}

// natGuest is the guest whose queue pairs are those.
func natGuest(c nat.Config, pairs []*nat.Port) guest {
	g := guest{name: c.Guest.String(), network: Network{NAT: &c}, natPort: pairs[0]}
	for _, p := range pairs {
		g.ports = append(g.ports, p)
		g.counters = append(g.counters, counting.From(p.Counters))
	}
	g.snapshot = func(t *worker.Thread) nat.Snapshot { return engineOf(t.Port()).Snapshot(t.Now()) }
	return g
}
