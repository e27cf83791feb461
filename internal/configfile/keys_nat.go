package configfile

import (
	"net"
	"net/netip"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/tap"
)

// natKeys are the keys of a network of the guests' own.
func natKeys() []key {
	keys := []key{
		{name: "network", fields: []string{"NAT.Network"}, about: "IPv4 network of the guests: the router is .2, the name server .3, the first guest .15.",
			value: scalar[netip.Prefix]{network4(), func(c *daemon.Config) *netip.Prefix { return &c.NAT.Network }}},
		{name: "network6", fields: []string{"NAT.Network6", "NAT.NoIPv6"}, about: "IPv6 network of the guests, a /64; or off.",
			value: custom{readNetwork6, writeNetwork6, plain[string]().schema()}},
		{name: "mtu", fields: []string{"NAT.MTU"}, about: "MTU of the guests in bytes.",
			value: scalar[int]{number[int](), func(c *daemon.Config) *int { return &c.NAT.MTU }}},
		{name: "queues", fields: []string{"NAT.Queues"}, about: "Number of queue pairs that each guest can use.",
			value: scalar[int]{number[int](), func(c *daemon.Config) *int { return &c.NAT.Queues }}},
	}
	return append(append(keys, wayKeys()...), hostKeys()...)
}

// wayKeys say where frames may go.
func wayKeys() []key {
	filtering := choice(nat.FilteringNames(), nat.ParseFiltering, nat.Filtering.String)
	return []key{
		{name: "forwards", fields: []string{"NAT.Forwards"}, options: []string{"forward"}, about: "Ports and unix sockets of the host that lead into guests: " + spec.ForwardForm + " or " + spec.UnixForwardForm + ".",
			value: list[spec.Forward]{stringer(spec.ParseForward), func(c *daemon.Config) *[]spec.Forward { return &c.NAT.Forwards }}},
		{name: "allow-host", fields: []string{"NAT.AllowHost"}, about: "Services of the host that are open to guests: " + spec.HostServiceForm + ".",
			value: custom{readServices, writeServices, listOf(plain[string]().schema())}},
		{name: "rules", fields: []string{"NAT.Rules"}, options: []string{"allow", "deny"}, about: "Destinations that guests may reach or not; the first that matches decides.",
			value: custom{readRules, writeRules, listOf(ruleSchema())}},
		{name: "restrict", fields: []string{"NAT.Restrict"}, about: "Close everything that rules and allow-host do not open.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.Restrict }}},
		{name: "dns", fields: []string{"NAT.Resolvers"}, about: "Resolvers that are asked for the guests, instead of those of /etc/resolv.conf: " + daemon.ResolverForm + ".",
			value: list[netip.AddrPort]{stringer(daemon.ParseResolver), func(c *daemon.Config) *[]netip.AddrPort { return &c.NAT.Resolvers }}},
		{name: "dns-cache", fields: []string{"NAT.DNSCache"}, about: "Keep answers of resolvers, for each guest its own, and give them to the guest when it asks the same again by UDP.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.DNSCache }}},
		{name: "udp-endpoint-independent", fields: []string{"NAT.EndpointIndependent"}, about: "One host port for each UDP port of a guest, whatever the destination.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.EndpointIndependent }}},
		{name: "udp-filtering", fields: []string{"NAT.UDPFiltering"}, about: "Who may send to a UDP port of a guest that has sent something.",
			value: scalar[nat.Filtering]{filtering, func(c *daemon.Config) *nat.Filtering { return &c.NAT.UDPFiltering }}},
		{name: "multicast", fields: []string{"NAT.Multicast"}, about: "Interfaces of the host in whose networks guests find services by mDNS and SSDP.",
			value: list[string]{plain[string](), func(c *daemon.Config) *[]string { return &c.NAT.Multicast }}},
		{name: "reconnect-grace", fields: []string{"NAT.ReconnectGrace"}, about: "How long connections are kept while the front end is disconnected, as in 30s.",
			value: scalar[time.Duration]{duration(), func(c *daemon.Config) *time.Duration { return &c.NAT.ReconnectGrace }}},
	}
}

// hostKeys say what hosts of the guests' network are told.
func hostKeys() []key {
	return []key{
		{name: "hostname", fields: []string{"NAT.Hostname"}, about: "Host name that DHCP announces.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.NAT.Hostname }}},
		{name: "domain", fields: []string{"NAT.Domain"}, about: "Domain that DHCP announces.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.NAT.Domain }}},
		{name: "search", fields: []string{"NAT.Search", "NAT.NoSearch"}, about: "Domains in which guests look names up, or none.",
			value: custom{readSearch, writeSearch, listOf(plain[string]().schema())}},
		{name: "leases", fields: []string{"NAT.Leases"}, options: []string{"lease"}, about: "Addresses that DHCP gives to certain hosts: " + hostconf.LeaseForm + ".",
			value: list[hostconf.Lease]{stringer(hostconf.ParseLease), func(c *daemon.Config) *[]hostconf.Lease { return &c.NAT.Leases }}},
		{name: "routes", fields: []string{"NAT.Routes"}, options: []string{"route"}, about: "IPv4 routes that DHCP announces: " + hostconf.RouteForm + ".",
			value: list[hostconf.Route]{stringer(hostconf.ParseRoute), func(c *daemon.Config) *[]hostconf.Route { return &c.NAT.Routes }}},
		{name: "ntp", fields: []string{"NAT.NTP"}, about: "Time servers that DHCP announces.",
			value: list[netip.Addr]{server("ntp"), func(c *daemon.Config) *[]netip.Addr { return &c.NAT.NTP }}},
		{name: "boot-servers", fields: []string{"NAT.BootServers"}, options: []string{"boot-server"}, about: "TFTP servers of boot-files, one of IPv4 and one of IPv6.",
			value: list[netip.Addr]{server("boot-server"), func(c *daemon.Config) *[]netip.Addr { return &c.NAT.BootServers }}},
		{name: "boot-files", fields: []string{"NAT.BootFiles"}, options: []string{"boot-file"}, about: "Files or URLs that guests boot from the network: " + hostconf.BootFileForm + ".",
			value: list[hostconf.BootFile]{stringer(hostconf.ParseBootFile), func(c *daemon.Config) *[]hostconf.BootFile { return &c.NAT.BootFiles }}},
		{name: "dhcp-options", fields: []string{"NAT.Options"}, options: []string{"dhcp-option"}, about: "Options of DHCP by their numbers: " + hostconf.OptionForm + ".",
			value: list[hostconf.Option]{stringer(hostconf.ParseOption), func(c *daemon.Config) *[]hostconf.Option { return &c.NAT.Options }}},
		{name: "dhcp6-options", fields: []string{"NAT.Options6"}, options: []string{"dhcp6-option"}, about: "The same for DHCPv6.",
			value: list[hostconf.Option]{stringer(hostconf.ParseOption6), func(c *daemon.Config) *[]hostconf.Option { return &c.NAT.Options6 }}},
	}
}

// server is the address of a server of an option.
func server(option daemon.Option) form[netip.Addr] {
	return stringer(func(text string) (netip.Addr, error) { return daemon.ParseServer(option, text) })
}

// network4 is the network of IPv4. The zero Prefix is the default one.
func network4() form[netip.Prefix] {
	f := stringer(daemon.ParseNetwork)
	f.text = func(p netip.Prefix) string {
		if !p.IsValid() {
			return ""
		}
		return p.String()
	}
	return f
}

// hardware is an address of an interface, which may be none.
type hardware net.HardwareAddr

func (h hardware) String() string { return net.HardwareAddr(h).String() }

func parseMAC(text string) (hardware, error) {
	mac, err := daemon.ParseMAC(text)
	return hardware(mac), err
}

func trunk() form[[]tap.VLANRange] {
	return form[[]tap.VLANRange]{kinds: texts(), text: tap.FormatVLANs, parse: func(text string) ([]tap.VLANRange, error) {
		vlans, err := tap.ParseVLANs(text)
		if err != nil {
			return nil, err
		}
		return vlans, nil
	}}
}

func duration() form[time.Duration] {
	return form[time.Duration]{
		parse: func(text string) (time.Duration, error) {
			d, err := time.ParseDuration(text)
			if err != nil {
				return 0, wantError("a time with its unit, as in 30s")
			}
			return d, nil
		},
		text:  time.Duration.String,
		kinds: texts(),
	}
}

func readNetwork6(r *reader, k *key, n ast.Node, c *daemon.Config) {
	readOne(r, k, n, form[struct{}]{parse: func(text string) (struct{}, error) { return struct{}{}, c.NAT.SetNetwork6(text) }})
}

func writeNetwork6(c *daemon.Config) (w written) {
	switch n := c.NAT; {
	case n.NoIPv6:
		w.items = []string{quoted(daemon.NoNetwork6, false)}
	case n.Network6.IsValid():
		w.items = []string{quoted(n.Network6.String(), false)}
	}
	return w
}

func readSearch(r *reader, k *key, n ast.Node, c *daemon.Config) {
	for _, item := range r.items(k, n) {
		if domain, ok := readOne(r, k, item, plain[string]()); ok {
			c.NAT.AddSearch(domain)
		}
	}
}

func writeSearch(c *daemon.Config) written {
	w := written{list: true}
	for _, domain := range c.NAT.Search {
		w.items = append(w.items, quoted(domain, false))
	}
	if c.NAT.NoSearch {
		w.items = append(w.items, quoted(daemon.NoSearch, false))
	}
	return w
}

// maxServices bounds the services of all texts together: each port is one.
const maxServices = 1 << 17

func readServices(r *reader, k *key, n ast.Node, c *daemon.Config) {
	for _, item := range r.items(k, n) {
		services, ok := readOne(r, k, item, form[[]spec.HostService]{parse: spec.ParseHostServices})
		if len(c.NAT.AllowHost)+len(services) > maxServices {
			r.faultf(item, "%s: these are more than %d services", k.name, maxServices)
			return
		}
		if ok {
			c.NAT.AllowHost = append(c.NAT.AllowHost, services...)
		}
	}
}

func writeServices(c *daemon.Config) written {
	w := written{list: true}
	for _, text := range spec.HostServiceTexts(c.NAT.AllowHost) {
		w.items = append(w.items, quoted(text, false))
	}
	return w
}

// Words in front of a rule.
const (
	allowWord = "allow"
	denyWord  = "deny"
)

// readRules reads rules in their order: each is "allow" or "deny" with a destination.
func readRules(r *reader, k *key, n ast.Node, c *daemon.Config) {
	for _, item := range r.items(k, n) {
		pairs := r.pairs(item)
		if len(pairs) != 1 {
			r.faultf(item, "rules: want one of allow and deny, as in \"- deny: 192.168.0.0/16\"")
			continue
		}
		word, isName := nameOf(pairs[0])
		if !isName || word != allowWord && word != denyWord {
			r.faultf(pairs[0].Key, "rules: want allow or deny, as in \"- deny: 192.168.0.0/16\"")
			continue
		}
		parse := func(text string) (spec.Rule, error) { return spec.ParseRule(text, word == allowWord) }
		if rule, ok := readOne(r, k, pairs[0].Value, form[spec.Rule]{parse: parse}); ok {
			c.NAT.Rules = append(c.NAT.Rules, rule)
		}
	}
}

func writeRules(c *daemon.Config) written {
	w := written{list: true}
	for _, rule := range c.NAT.Rules {
		word := denyWord
		if rule.Allow {
			word = allowWord
		}
		w.items = append(w.items, word+": "+quoted(rule.String(), false))
	}
	return w
}

// ruleSchema describes a rule.
func ruleSchema() object {
	destination := plain[string]().schema()
	return object{
		{"type", "object"}, {"properties", object{{allowWord, destination}, {denyWord, destination}}},
		{"additionalProperties", false}, {"minProperties", 1}, {"maxProperties", 1},
	}
}
