package passtopt

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// Plan is what a command line means.
type Plan struct {
	Config     daemon.Config
	RunAs      *sandbox.User // who is to serve the guest where root starts vring; nil if nobody was named
	Text       []string      // what passt prints of it at the start
	Notes      []string      // what is not done as passt does it, a sentence each
	Exceptions []string      // what is open that vring closes as a rule, a sentence each
}

// version is one version of IP, as the guest has it.
type version struct {
	on      bool
	link    string // the interface that it is taken from, "" for none
	prefix  netip.Prefix
	guest   netip.Addr
	gateway netip.Addr
	mapHost netip.Addr // stands for the host's loopback
	relay   netip.Addr // where names are passed on
	local   netip.Addr // of the router on the link, in IPv6
}

// plan is a Plan that is being made.
type plan struct {
	o      *Options
	h      *Host
	v4, v6 version
	told   []netip.Addr // name servers
	search []string     // domains, whether they are told or not
	rules  ruleSet
	out    Plan
}

// Translate returns what the options mean on a host. The error is a Fault.
func (o Options) Translate(h Host) (Plan, error) {
	p := plan{o: &o, h: &h}
	var err error
	if p.out.RunAs, err = p.runAs(); err != nil {
		return Plan{}, err
	}
	if o.Interface != "" && !h.HasInterface(o.Interface) {
		return Plan{}, faultf("Invalid interface name %s: No such device", o.Interface)
	}
	p.setV4()
	p.setV6()
	if !p.v4.on && !p.v6.on {
		return Plan{}, faultf("neither IPv4 nor IPv6 is left for the guest")
	}
	p.rules = ruleSet{has4: !o.IPv6Only, has6: !o.IPv4Only, tcp: !o.Without["tcp"], udp: !o.Without["udp"]}
	for _, ports := range o.Ports {
		if err := p.rules.addSpec(ports, p.h); err != nil {
			return Plan{}, err
		}
	}
	p.setNames()
	if err := p.configure(); err != nil {
		return Plan{}, err
	}
	p.tell()
	return p.out, nil
}

func (p *plan) note(format string, args ...any) {
	p.out.Notes = append(p.out.Notes, fmt.Sprintf(format, args...))
}

// setV4 finds out what the guest has of IPv4: what the host has, but for what was given. Without a link it has addresses for itself.
func (p *plan) setV4() {
	o, v := p.o, &p.v4
	if o.IPv6Only {
		return
	}
	v.on = true
	l, ok := p.h.Link(true, o.Interface)
	if !ok || !l.Gateway.IsValid() && !o.Gateway4.IsValid() {
		p.out.Text = append(p.out.Text, "IPv4: no external interface as template, use local mode")
		l = Link{Address: netip.MustParsePrefix("169.254.2.1/16"), Gateway: netip.MustParseAddr("169.254.2.2")}
	}
	v.link, v.guest, v.gateway = l.Name, l.Address.Addr(), l.Gateway
	bits := l.Address.Bits()
	if o.Address4.IsValid() {
		v.guest, bits = o.Address4, classBits(o.Address4)
		if o.Bits4 >= 0 {
			bits = o.Bits4
		}
	}
	if o.Gateway4.IsValid() {
		v.gateway = o.Gateway4
	}
	v.prefix, _ = v.guest.Prefix(max(bits, 1))
	v.mapHost = o.MapHost4
	if !v.mapHost.IsValid() && !o.NoMapGateway {
		v.mapHost = v.gateway
	}
}

// classBits is the length of the network that an address had before there were lengths.
func classBits(a netip.Addr) int {
	switch first := a.As4()[0]; {
	case first < 128:
		return 8
	case first < 192:
		return 16
	case first < 224:
		return 24
	}
	return 32
}

// setV6 finds out what the guest has of IPv6. Without a link, and without an address that was given, it has none.
func (p *plan) setV6() {
	o, v := p.o, &p.v6
	if o.IPv4Only {
		return
	}
	l, ok := p.h.Link(false, o.Interface)
	if !ok || !l.Gateway.IsValid() && !o.Gateway6.IsValid() {
		p.out.Text = append(p.out.Text, "IPv6: no external interface as template, use local mode")
		l = Link{Gateway: netip.MustParseAddr("fe80::1")}
	}
	v.link, v.guest, v.gateway, v.local = l.Name, l.Address.Addr(), l.Gateway, l.LinkLocal
	if o.Address6.IsValid() {
		v.guest = o.Address6
	}
	if o.Gateway6.IsValid() {
		v.gateway = o.Gateway6
	}
	if v.gateway.IsLinkLocalUnicast() {
		v.local = v.gateway
	}
	const minMTU = 1280
	switch {
	case !v.guest.IsValid():
		p.note("the guest gets no IPv6: the host has no address that could be the guest's; --address gives one")
		return
	case o.MTU != 0 && o.MTU < minMTU:
		p.note("the guest gets no IPv6: that takes an MTU of %d", minMTU)
		return
	}
	v.on = true
	v.prefix, _ = v.guest.Prefix(64)
	v.mapHost = o.MapHost6
	if !v.mapHost.IsValid() && !o.NoMapGateway {
		v.mapHost = v.gateway
	}
}

// setNames finds out which name servers the guest is told of, and where names are passed on.
func (p *plan) setNames() {
	o := p.o
	p.v4.relay, p.v6.relay = o.DNSForward4, o.DNSForward6
	if o.NoDNS {
		return
	}
	p.told = p.namesOf(&p.v4, true)
	p.told = append(p.told, p.namesOf(&p.v6, false)...)
	if len(p.told) == 0 && !o.NoDHCPDNS {
		p.note("Couldn't get any nameserver address")
	}
}

// namesOf are those of one version of IP: those that were given, or the host's. A resolver that the guest cannot reach as it is stands behind the
// address of the relay.
func (p *plan) namesOf(v *version, is4 bool) (told []netip.Addr) {
	if given := ofVersion(p.o.DNS, is4); len(given) > 0 || !v.on {
		return given
	}
	for _, a := range ofVersion(p.h.Resolvers, is4) {
		if a.IsLoopback() || a == v.mapHost {
			if !v.relay.IsValid() {
				v.relay = v.mapHost
			}
			a = v.relay
		}
		if a.IsValid() && len(told) < maxServers && !slices.Contains(told, a) {
			told = append(told, a)
		}
	}
	return told
}

// configure makes the configuration.
func (p *plan) configure() error {
	o := p.o
	n := daemon.DefaultNAT()
	n.Shared, n.MTU, n.RouterMAC = true, o.MTU, o.RouterMAC
	if n.MTU == 0 {
		n.MTU = maxMTU
		n.Options = append(n.Options, hostconf.Option{Code: 26, Omit: true}) // the MTU is not told
	}
	if n.RouterMAC == nil {
		n.RouterMAC = net.HardwareAddr{0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55}
	}
	p.setNetwork(&n)
	p.setWithout(&n)
	p.setTold(&n)
	p.setPolicy(&n)
	p.setOutbound(&n)
	for i := range p.rules.all {
		n.Forwards = append(n.Forwards, p.rules.all[i].forwards(p.target(), o.Freebind)...)
	}
	c := daemon.Config{
		FrontEnds: daemon.FrontEnds{FD: o.FD, OneOff: o.OneOff, Kind: daemon.FrontEndStream},
		Control:   daemon.ParseControl("off"), Sandbox: sandbox.On, NAT: &n,
		Log:     daemon.Log{Level: slog.LevelInfo, Format: daemon.FormatText},
		Threads: daemon.Threads{Poll: daemon.DefaultPoll},
	}
	if o.VhostUser {
		c.FrontEnds.Kind = daemon.FrontEndVhostUser
	}
	if o.FD == nil {
		c.FrontEnds.SocketPaths = []string{o.Socket}
	}
	switch {
	case o.Debug:
		c.Log.Level = slog.LevelDebug
	case o.Quiet:
		c.Log.Level = slog.LevelWarn
	}
	p.out.Config = c
	return nil
}

// setOutbound says how what the guest sends leaves the host.
func (p *plan) setOutbound(n *daemon.NAT) {
	n.OutboundInterface4, n.OutboundInterface6 = p.o.OutboundIf4, p.o.OutboundIf6
	for _, a := range []netip.Addr{p.o.Outbound4, p.o.Outbound6} {
		if a.IsValid() {
			n.OutboundAddresses = append(n.OutboundAddresses, a)
		}
	}
}

// target is where forwards lead that name no address.
func (p *plan) target() netip.Addr {
	if p.v4.on {
		return p.v4.guest
	}
	return p.v6.guest
}

// setNetwork gives n the guest's addresses.
func (p *plan) setNetwork(n *daemon.NAT) {
	v := p.v4
	if !v.on { // the engine has IPv4 in any case; nobody tells the guest of it
		v.prefix, v.guest, v.gateway = netip.MustParsePrefix("169.254.2.0/24"), netip.MustParseAddr("169.254.2.1"), netip.MustParseAddr("169.254.2.2")
	}
	n.Network = v.prefix.Masked()
	n.GuestAddresses, n.Routers = []netip.Addr{v.guest}, []netip.Addr{v.gateway}
	if n.NoIPv6 = !p.v6.on; p.v6.on {
		n.Network6 = p.v6.prefix.Masked()
		n.GuestAddresses, n.Routers = append(n.GuestAddresses, p.v6.guest), append(n.Routers, p.v6.gateway)
	}
	for _, relay := range []version{p.v4, p.v6} {
		if relay.on && relay.relay.IsValid() {
			n.Relays = append(n.Relays, relay.relay)
		}
	}
	n.NoRelay = len(n.Relays) == 0
	for _, a := range []netip.Addr{p.o.DNSHost4, p.o.DNSHost6} {
		if a.IsValid() && !n.NoRelay {
			n.Resolvers = append(n.Resolvers, dns.Server{Addr: netip.AddrPortFrom(a, dns.Port)})
		}
	}
}

// setWithout gives n what the guest does not have.
func (p *plan) setWithout(n *daemon.NAT) {
	without := func(name string) { n.Without = append(n.Without, must(nat.ParseProtocol(name))) }
	for _, name := range nat.ProtocolNames() {
		switch {
		case p.o.Without[name],
			name == "dhcp" && !p.v4.on,
			name == "ndp" && p.o.Without["icmp"]: // as passt has it
			without(name)
		}
	}
}

// must returns a value of which it is known that it can be read.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// setTold gives n what the guest is told by DHCP, DHCPv6 and router advertisements.
func (p *plan) setTold(n *daemon.NAT) {
	o := p.o
	n.NameServers = p.told
	if n.NoNameServers = o.NoDHCPDNS || len(p.told) == 0; n.NoNameServers {
		n.NameServers = nil
	}
	p.search = p.domains()
	if n.NoSearch = o.NoDHCPSearch || len(p.search) == 0; !n.NoSearch {
		n.Search = p.search
	}
	if hostconf.CheckNames(o.Hostname, "") == nil {
		n.Hostname = o.Hostname
	} else {
		n.Options = append(n.Options, must(hostconf.ParseOption("12=text:"+printable(o.Hostname))))
	}
	if o.FQDN != "" {
		name := hex.EncodeToString(hostconf.Names([]string{o.FQDN}, maxName))
		n.Options = append(n.Options, must(hostconf.ParseOption("81=hex:04ffff"+name))) // RFC 4702: the name is in the form of DNS
		n.Options6 = append(n.Options6, must(hostconf.ParseOption6("39=hex:00"+name)))  // RFC 4704
	}
}

// printable is a text without what an option of DHCP could not have.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// domains are those in which the guest looks names up.
func (p *plan) domains() (domains []string) {
	o := p.o
	if o.NoSearch {
		return nil
	}
	domains = o.Search
	if len(domains) == 0 {
		domains = p.h.Search
	}
	return slices.DeleteFunc(slices.Clone(domains), func(d string) bool {
		if hostconf.CheckSearch([]string{d}) == nil {
			return false
		}
		p.note("%q is not told as a search domain: it is none", d)
		return true
	})
}

// setPolicy gives n what the guest may reach.
func (p *plan) setPolicy(n *daemon.NAT) {
	p.redirect(n, p.v4.on, p.v4.mapHost, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	p.redirect(n, p.v6.on, p.v6.mapHost, netip.IPv6Loopback())
	p.redirect(n, p.v4.on, p.o.MapGuest4, p.v4.guest)
	p.redirect(n, p.v6.on, p.o.MapGuest6, p.v6.guest)
	if n.NoNameServers {
		return
	}
	for _, a := range p.told {
		r := spec.Rule{Allow: true, Prefix: netip.PrefixFrom(a, a.BitLen()), First: 53, Last: 53}
		if nat.NamesLinkLocal(r) {
			n.Rules = append(n.Rules, r)
		}
	}
}

// redirect leads an address that the guest names to one of the host.
func (p *plan) redirect(n *daemon.NAT, on bool, from, to netip.Addr) {
	if on && from.IsValid() && to.IsValid() && from != to {
		n.Redirects = append(n.Redirects, spec.Redirect{From: netip.AddrPortFrom(from, 0), To: netip.AddrPortFrom(to, 0)})
	}
}
