package configfile

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
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
	return append(append(append(keys, addressKeys()...), wayKeys()...), hostKeys()...)
}

// addressKeys set the addresses of the network apart from the network.
func addressKeys() []key {
	protocol := choice(nat.ProtocolNames(), nat.ParseProtocol, nat.Protocol.String)
	return []key{
		{name: "guest-addresses", fields: []string{"NAT.GuestAddresses"}, options: []string{"guest-address"}, about: "Addresses of the first guest, one of IPv4 and one of IPv6.",
			value: list[netip.Addr]{server("guest-address"), func(c *daemon.Config) *[]netip.Addr { return &c.NAT.GuestAddresses }}},
		{name: "routers", fields: []string{"NAT.Routers"}, options: []string{"router"}, about: "Addresses of the guests' router, one of IPv4 and one of IPv6.",
			value: list[netip.Addr]{server("router"), func(c *daemon.Config) *[]netip.Addr { return &c.NAT.Routers }}},
		{name: "router-mac", fields: []string{"NAT.RouterMAC"}, about: "Ethernet address of the router.",
			value: custom{readRouterMAC, writeRouterMAC, plain[string]().schema()}},
		{name: "dns-relays", fields: []string{"NAT.Relays", "NAT.NoRelay"}, options: []string{"dns-relay"}, about: "Addresses at which guests' queries are passed on to resolvers, one of IPv4 and one of IPv6; or off.",
			value: custom{readEach((*daemon.NAT).AddRelay), writeRelays, listOf(plain[string]().schema())}},
		{name: "name-servers", fields: []string{"NAT.NameServers", "NAT.NoNameServers"}, options: []string{"name-server"}, about: "Name servers that guests are told of, or none.",
			value: custom{readEach((*daemon.NAT).AddNameServer), writeNameServers, listOf(plain[string]().schema())}},
		{name: "shared-network", fields: []string{"NAT.Shared"}, about: "The guests' network is one that the host is in: other addresses of it are those of hosts there.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.Shared }}},
		{name: "without", fields: []string{"NAT.Without"}, about: "Protocols that guests do not have.",
			value: list[nat.Protocol]{protocol, func(c *daemon.Config) *[]nat.Protocol { return &c.NAT.Without }}},
	}
}

func readRouterMAC(r *reader, k *key, n ast.Node, c *daemon.Config) {
	if mac, ok := readOne(r, k, n, stringer(func(text string) (hardware, error) {
		mac, err := daemon.ParseMAC("router-mac", text)
		return hardware(mac), err
	})); ok {
		c.NAT.RouterMAC = net.HardwareAddr(mac)
	}
}

func writeRouterMAC(c *daemon.Config) (w written) {
	if mac := c.NAT.RouterMAC; mac != nil {
		w.items = []string{quoted(mac.String(), false)}
	}
	return w
}

// readEach reads a list of texts, each of which add adds to the network.
func readEach(add func(n *daemon.NAT, text string) error) func(r *reader, k *key, n ast.Node, c *daemon.Config) {
	return func(r *reader, k *key, n ast.Node, c *daemon.Config) {
		for _, item := range r.items(k, n) {
			readOne(r, k, item, form[struct{}]{parse: func(text string) (struct{}, error) { return struct{}{}, add(c.NAT, text) }})
		}
	}
}

func writeRelays(c *daemon.Config) written {
	return writeAddrs(c.NAT.Relays, c.NAT.NoRelay, daemon.NoRelay)
}

func writeNameServers(c *daemon.Config) written {
	return writeAddrs(c.NAT.NameServers, c.NAT.NoNameServers, daemon.NoNameServers)
}

// writeAddrs writes a list of addresses, behind which there may be a word for none.
func writeAddrs(addrs []netip.Addr, none bool, word string) written {
	w := written{list: true}
	for _, a := range addrs {
		w.items = append(w.items, quoted(a.String(), false))
	}
	if none {
		w.items = append(w.items, quoted(word, false))
	}
	return w
}

// wayKeys say where frames may go.
func wayKeys() []key {
	filtering := choice(nat.FilteringNames(), nat.ParseFiltering, nat.Filtering.String)
	return []key{
		{name: "forwards", fields: []string{"NAT.Forwards"}, options: []string{"forward"}, about: "Ports and unix sockets of the host that lead into guests: " + spec.ForwardForm + " or " + spec.UnixForwardForm + ".",
			value: list[spec.Forward]{stringer(spec.ParseForward), func(c *daemon.Config) *[]spec.Forward { return &c.NAT.Forwards }}},
		{name: "expose", fields: []string{"NAT.Expose"}, about: "Let forwards that are added while guests are served listen at all addresses of the host, not at its loopback only.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.Expose }}},
		{name: "allow-host", fields: []string{"NAT.AllowHost"}, about: "Services of the host that are open to guests: " + spec.HostServiceForm + ".",
			value: custom{readServices, writeServices, listOf(plain[string]().schema())}},
		{name: "rules", fields: []string{"NAT.Rules"}, options: []string{"allow", "deny", "allow-name", "deny-name"}, about: "Destinations that guests may reach or not; the first that matches decides.",
			value: custom{readRules, writeRules, listOf(ruleSchema())}},
		{name: "name-groups", fields: []string{"NAT.NameGroups"}, options: []string{"name-group"}, about: "Names that rules name together, by \"@\" and the group's name: " + spec.NameGroupForm + ".",
			value: list[spec.NameGroup]{stringer(spec.ParseNameGroup), func(c *daemon.Config) *[]spec.NameGroup { return &c.NAT.NameGroups }}},
		{name: "refuse-names", fields: []string{"NAT.RefuseNames"}, about: "What guests are told of names that rules refuse.",
			value: scalar[nat.Refusal]{choice(nat.RefusalNames(), nat.ParseRefusal, nat.Refusal.String), func(c *daemon.Config) *nat.Refusal { return &c.NAT.RefuseNames }}},
		{name: "restrict", fields: []string{"NAT.Restrict"}, about: "Close everything that rules and allow-host do not open.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.Restrict }}},
		{name: "redirects", fields: []string{"NAT.Redirects"}, options: []string{"redirect"}, about: "Destinations of guests that lead elsewhere, also to the host: " + spec.RedirectForm + ".",
			value: list[spec.Redirect]{stringer(spec.ParseRedirect), func(c *daemon.Config) *[]spec.Redirect { return &c.NAT.Redirects }}},
		{name: "via", fields: []string{"NAT.Via"}, about: "Proxy by which connections of TCP leave of which no rule says otherwise: " + spec.ProxyForm + ".",
			value: scalar[spec.Proxy]{form[spec.Proxy]{parse: parseVia, text: spec.Proxy.Text, kinds: texts()}, func(c *daemon.Config) *spec.Proxy { return &c.NAT.Via }}},
		{name: "outbound-interface", fields: []string{"NAT.OutboundInterface"}, about: "Interface of the host that guests' packets leave by, and no other.",
			value: scalar[string]{interfaceName(), func(c *daemon.Config) *string { return &c.NAT.OutboundInterface }}},
		{name: "outbound-interface4", fields: []string{"NAT.OutboundInterface4"}, about: "The same for IPv4 alone.",
			value: scalar[string]{interfaceName(), func(c *daemon.Config) *string { return &c.NAT.OutboundInterface4 }}},
		{name: "outbound-interface6", fields: []string{"NAT.OutboundInterface6"}, about: "The same for IPv6 alone.",
			value: scalar[string]{interfaceName(), func(c *daemon.Config) *string { return &c.NAT.OutboundInterface6 }}},
		{name: "outbound-address", fields: []string{"NAT.OutboundAddresses"}, about: "Source addresses of the host that guests' packets leave with, one for each version of IP.",
			value: list[netip.Addr]{stringer(netip.ParseAddr), func(c *daemon.Config) *[]netip.Addr { return &c.NAT.OutboundAddresses }}},
		{name: "dns-names", fields: []string{"NAT.Names"}, options: []string{"dns-name"}, about: "Names that are answered without a resolver, by UDP: " + dnszone.EntryForm + ".",
			value: list[dnszone.Entry]{stringer(dnszone.ParseEntry), func(c *daemon.Config) *[]dnszone.Entry { return &c.NAT.Names }}},
		{name: "dns", fields: []string{"NAT.Resolvers"}, about: "Resolvers that are asked for the guests, instead of those of /etc/resolv.conf: " + daemon.ResolverForm + ".",
			value: list[dns.Server]{stringer(daemon.ParseResolver), func(c *daemon.Config) *[]dns.Server { return &c.NAT.Resolvers }}},
		{name: "dns-for", fields: []string{"NAT.Split"}, about: "Domains for which other resolvers are asked, and those for nothing else: " + dns.RouteForm + ", with a RESOLVER as above.",
			value: list[dns.Route]{stringer(daemon.ParseRoute), func(c *daemon.Config) *[]dns.Route { return &c.NAT.Split }}},
		{name: "dns-cache", fields: []string{"NAT.DNSCache"}, about: "Keep answers of resolvers, for each guest its own, and give them to the guest when it asks the same again by UDP.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.DNSCache }}},
		{name: "measure", fields: []string{"NAT.Measure"}, about: "Let the router answer to echo, discard and chargen, so that guests measure their link.",
			value: scalar[bool]{truth(), func(c *daemon.Config) *bool { return &c.NAT.Measure }}},
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
		{name: "tftp", fields: []string{"NAT.BootRoot"}, about: "Directory with files that guests boot from, which the router gives out by TFTP; without boot-servers, those of boot-files are there.",
			value: scalar[string]{plain[string](), func(c *daemon.Config) *string { return &c.NAT.BootRoot }}},
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
	mac, err := daemon.ParseMAC("mac", text)
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
	byName    = "-name" // behind one of them, in front of a rule by name
)

// readRules reads rules in their order: each is "allow", "deny", "allow-name" or "deny-name" with a destination.
func readRules(r *reader, k *key, n ast.Node, c *daemon.Config) {
	for _, item := range r.items(k, n) {
		pairs := r.pairs(item)
		if len(pairs) != 1 {
			r.faultf(item, "rules: want one of allow, deny, allow-name and deny-name, as in \"- deny: 192.168.0.0/16\"")
			continue
		}
		word, isName := nameOf(pairs[0])
		verdict, named := strings.CutSuffix(word, byName)
		if !isName || verdict != allowWord && verdict != denyWord {
			r.faultf(pairs[0].Key, "rules: want allow, deny, allow-name or deny-name, as in \"- deny: 192.168.0.0/16\"")
			continue
		}
		parse := func(text string) (spec.Rule, error) { return spec.ParseRule(text, verdict == allowWord) }
		if named {
			parse = func(text string) (spec.Rule, error) { return spec.ParseNameRule(text, verdict == allowWord) }
		}
		if rule, ok := readOne(r, k, pairs[0].Value, form[spec.Rule]{parse: parse}); ok {
			c.NAT.Rules = append(c.NAT.Rules, rule)
		}
	}
}

// parseVia reads a proxy; "" is none.
func parseVia(text string) (spec.Proxy, error) {
	if text == "" {
		return spec.Proxy{}, nil
	}
	return spec.ParseProxy(text)
}

// interfaceName is the name of an interface; "" is none.
func interfaceName() form[string] {
	return form[string]{parse: func(text string) (string, error) {
		if text == "" {
			return "", nil
		}
		return text, spec.CheckInterface(text)
	}, text: func(name string) string { return name }, kinds: texts()}
}

func writeRules(c *daemon.Config) written {
	w := written{list: true}
	for _, rule := range c.NAT.Rules {
		w.items = append(w.items, strings.TrimPrefix(rule.Option(), "--")+": "+quoted(rule.Text(), false))
	}
	return w
}

// ruleSchema describes a rule.
func ruleSchema() object {
	destination := plain[string]().schema()
	return object{
		{"type", "object"}, {"properties", object{{allowWord, destination}, {denyWord, destination}, {allowWord + byName, destination}, {denyWord + byName, destination}}},
		{"additionalProperties", false}, {"minProperties", 1}, {"maxProperties", 1},
	}
}
