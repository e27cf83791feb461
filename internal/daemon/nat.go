package daemon

import (
	"net/netip"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/hostconf"
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
	// Options and Options6 are further options of DHCP and DHCPv6.
	Options  []hostconf.Option `option:"dhcp-option" fixed:"DHCP answers with what was configured when a guest was opened"`
	Options6 []hostconf.Option `option:"dhcp6-option" fixed:"DHCP answers with what was configured when a guest was opened"`

	// Forwards lead from the host into the guest whose address they name, or into the first one.
	Forwards []spec.Forward `option:"forward" live:"a listener is added or closed, and connections stay"`
	// AllowHost are the services of the host that are open to guests.
	AllowHost []spec.HostService `option:"allow-host" live:"flows are judged again, and end if they are closed"`
	// Rules open and close the rest; the first that matches decides.
	Rules []spec.Rule `option:"allow,deny" live:"flows are judged again, and end if they are closed"`
	// Restrict closes all that Rules and AllowHost do not open, and lets Resolvers only be asked.
	Restrict bool `option:"restrict" live:"flows are judged again, and end if they are closed"`
	// Resolvers are asked for names instead of the host's, if there are any.
	Resolvers []netip.AddrPort `option:"dns" live:"the next query goes there"`

	// DNSCache keeps answers of resolvers, for each guest its own.
	DNSCache bool `option:"dns-cache" fixed:"queries that are under way know whether their answers are kept"`

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
	c.EndpointIndependent, c.UDPFiltering = n.EndpointIndependent, n.UDPFiltering
	c.Multicast, c.DNSCache = n.Multicast, n.DNSCache
	c.Queues, c.ReconnectGrace = n.Queues, n.ReconnectGrace
	var errs *multierror.Error
	if n.Network.IsValid() {
		errs = multierror.Append(errs, c.SetNetwork(n.Network))
	}
	errs = multierror.Append(errs, n.setNetwork6(&c, shares.HasIPv6()), n.checkSearch(), c.Check())
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
	return natPlan(configs), err
}

// natPlan are the configurations of all guests' engines.
type natPlan []nat.Config

func (configs natPlan) names() (all []string) {
	for i := range configs {
		all = append(all, configs[i].Guest.String())
	}
	return all
}

// open opens an engine for each guest, or none.
func (configs natPlan) open(d *Daemon) (opened, error) {
	o := opened{needs: sandbox.Config{Internet: true, Multicast: len(configs[0].Multicast) > 0}, duties: natDuties(configs), engines: configs}
	var errs *multierror.Error
	for _, c := range configs {
		c.ReadFile, c.KeepFiles, c.Routes = d.broker.ReadFile, d.broker.Removes, d.broker.OpenRoutes
		pairs, err := nat.NewPairs(c)
		if err != nil {
			errs = multierror.Append(errs, err)
			continue
		}
		o.guests = append(o.guests, natGuest(c, pairs))
	}
	if errs == nil {
		return o, nil
	}
	return opened{}, multierror.Append(errs, closeAll(o.guests))
}

// natDuties is what the broker does for the engines: it removes the unix sockets of forwards in the end, and reads the
// host's resolvers, if they are asked.
func natDuties(configs []nat.Config) (duties broker.Duties) {
	for _, c := range configs {
		for _, f := range c.Forwards {
			if f.Path != "" {
				duties.Remove = append(duties.Remove, f.CleanPath())
			}
		}
	}
	if c := &configs[0]; readsResolvConf(c) {
		duties.Read = c.ResolvConf
	}
	return duties
}

// readsResolvConf reports whether the host's own resolvers are asked.
func readsResolvConf(c *nat.Config) bool { return len(c.Resolvers) == 0 && !c.Restrict }

// natGuest is the guest whose queue pairs are those.
func natGuest(c nat.Config, pairs []*nat.Port) guest {
	g := guest{name: c.Guest.String(), network: Network{NAT: &c}, natPort: pairs[0]}
	for _, p := range pairs {
		g.ports = append(g.ports, p)
		g.counters = append(g.counters, counting.From(p.Counters))
	}
	g.snapshot = func(t *worker.Thread) nat.Snapshot { return t.Port().(*nat.Port).Snapshot(t.Now()) }
	return g
}
