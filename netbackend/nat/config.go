package nat

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/internal/bootserver"
	"github.com/vringnet/vring/netbackend/nat/internal/dhcp"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/inbound"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/multicast"
	"github.com/vringnet/vring/netbackend/nat/internal/namejudge"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/nameserver"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/ping"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/review"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// KernelLimits are what a guest may use of the host's kernel, beside sockets.
type KernelLimits = shard.KernelLimits

// leaseTime is how long a guest may use its address without asking again. The address is its own anyway.
const leaseTime = 24 * time.Hour

// Config describes the network of one guest. DefaultConfig gives values that work.
type Config struct {
	Prefix  netip.Prefix // the guest's network in IPv4
	Gateway netip.Addr   // the guest's router, and the host as far as it is opened
	DNS     netip.Addr   // where the engine answers for names; the zero Addr is nowhere
	Guest   netip.Addr   // what DHCP gives the guest, and where forwards lead
	// The same in IPv6. With the zero Prefix6 the guest has no IPv6. Guests choose addresses in it themselves; Guest6 is what
	// this one gets by DHCPv6.
	Prefix6    netip.Prefix
	Gateway6   netip.Addr
	DNS6       netip.Addr
	Guest6     netip.Addr
	LinkLocal6 netip.Addr // the gateway's on the guest's link; the zero Addr is that of GatewayMAC
	// Shared is that the guest's networks are some of the host's: of their addresses only those above are the guest's and the engine's, and
	// the engine passes on what goes to others. The gateway's is that of a router there, but for what AllowHost opens.
	Shared bool
	// NameServers are those that the guest is told of, instead of DNS and DNS6. NoNameServers tells of none.
	NameServers      []netip.Addr
	NoNameServers    bool
	Without          []Protocol   // what the guest does not have
	GatewayMAC       [6]byte      // of all of the engine's addresses
	MTU              int          // the guest's, in bytes
	Others           []netip.Addr // other guests of the network; this one can neither use nor reach their addresses
	Hostname, Domain string       // what DHCP tells the guest; empty is not told
	Neighbour        Neighbour    // whom the guest reaches without the engine; the zero value is nobody
	// Search are the domains in which the guest looks names up. If there are none, Domain is the only one; without it they are
	// those of ResolvConf, unless Resolvers are asked. NoSearch tells of none at all.
	Search      []string
	NoSearch    bool
	Hosts       hostconf.Config // what else hosts of the guest are told, and fixed addresses of some
	Forwards    []spec.Forward
	AllowHost   []spec.HostService // what of the host is opened to the guest
	Rules       []spec.Rule        // what else is opened or closed; the first that matches decides
	NameGroups  []spec.NameGroup   // names that Rules name together
	RefuseNames Refusal            // what the guest is told of names that Rules refuse
	Restrict    bool               // all is closed that is not opened, and only Resolvers are asked, unless Rules allow names
	Redirects   []spec.Redirect    // where some destinations lead, which is open
	Way         spec.Way           // how all leaves the host of which no rule says otherwise
	Names       []dnszone.Entry    // answered without a resolver, by UDP
	Resolvers   []dns.Server       // asked instead of those of ResolvConf, if there are any
	Split       []dns.Route        // domains for which others are asked instead of all those
	ResolvConf  string             // where the host keeps its resolvers
	DNSRoots    *x509.CertPool     // whom certificates of resolvers by TLS must come from; nil for nobody
	MaxFlows    int                // connections and associations at once
	Kernel      shard.KernelLimits // what else of the host's kernel the guest may use
	MaxSockets  int                // descriptors for them and for forwards; ForGuests divides what the process may have
	Queues      int                // queue pairs of the guest
	PeekOffset  bool               // the kernel knows SO_PEEK_OFF for TCP (Linux 6.9); see hostcaps.HasPeekOffset
	WindowScale uint8              // shift of the windows that the guest gets, 0 to 14; see hostcaps.HostWindowScale
	UDPSegment  bool               // the kernel cuts messages into datagrams (UDP_SEGMENT); see hostcaps.HasUDPSegment
	UDPGRO      bool               // and puts datagrams together (UDP_GRO); see hostcaps.HasUDPGRO
	// EndpointIndependent gives each UDP port of the guest one port of the host, instead of one for each remote endpoint.
	EndpointIndependent bool
	Measure             bool          // the router has services by which the guest measures its link; see package measure
	DNSCache            bool          // answers to the guest's queries are kept; see package dnscache
	UDPFiltering        udp.Filtering // from whom datagrams come in
	Multicast           []string      // interfaces of the host in whose networks the guest finds services by mDNS and SSDP
	ReconnectGrace      time.Duration // how long connections outlive the front end, in case that it comes back
	// BootRoot is a directory with files that the guest boots from, which the router gives out by TFTP; "" for none. BootFile opens them, as
	// bootserver.Opener says. Check does not look whether the directory is there.
	BootRoot string
	BootFile func(name string) (fd int, err error)
	// ReadFile reads ResolvConf, as dns.Config.Read does; nil reads it in this process.
	ReadFile func(path string) ([]byte, error)
	// KeepFiles reports whether the files of forwards' unix sockets are left where they are when the engine is closed, for
	// somebody else to remove them; nil is no.
	KeepFiles func() bool
	// Routes opens the engine's sockets to the routing table, as package routesocket does, which nil stands for.
	Routes func(news bool) (fd int, err error)
	// Pings opens ping sockets, of IPv6 or of IPv4, where the host forbids them to this process; nil is that nobody does. A worker's thread
	// calls it. The error EACCES is that the host forbids it altogether.
	Pings     func(v6 bool) (fd int, err error)
	resolvers *namerelay.Quotas // that all guests of the process share; nil for a guest without others
	// Audit returns what takes what the guest asks for, begins, is denied and has ended. It is called once; nil, or that it returns nil, is
	// that nobody is told.
	Audit func() *audit.Recorder
	// Learn lets guests go wherever no rule by address closes, and looks at connections for the names of their servers, for who learns rules by
	// name from Audit. Rules by name and Restrict exclude it.
	Learn bool
	// Slept tells how long the host has been suspended in all since it booted; nil asks the kernel. Any thread may call it.
	Slept           func() time.Duration
	InitialSequence func() uint32 // chooses initial sequence numbers, for tests; nil for unpredictable ones
}

// DefaultConfig returns the network that users of QEMU know, 10.0.2.0/24 with the host at 10.0.2.2, and the like in IPv6,
// fd00:10:0:2::/64 with the host at fd00:10:0:2::2, if the host knows IPv6.
func DefaultConfig() Config {
	c := Config{
		Prefix:      netip.MustParsePrefix("10.0.2.0/24"),
		Gateway:     netip.MustParseAddr("10.0.2.2"),
		DNS:         netip.MustParseAddr("10.0.2.3"),
		Guest:       netip.MustParseAddr("10.0.2.15"),
		GatewayMAC:  [6]byte{0x52, 0x55, 10, 0, 2, 2},
		MTU:         1500,
		ResolvConf:  "/etc/resolv.conf",
		MaxFlows:    16384,
		Kernel:      shard.UsualKernelLimits(),
		MaxSockets:  hostcaps.OpenFiles() - reservedFiles,
		Queues:      1,
		PeekOffset:  hostcaps.HasPeekOffset(),
		WindowScale: hostcaps.HostWindowScale(),
		UDPSegment:  hostcaps.HasUDPSegment(),
		UDPGRO:      hostcaps.HasUDPGRO(),
	}
	if hostcaps.HasIPv6() {
		_ = c.SetNetwork6(netip.MustParsePrefix("fd00:10:0:2::/64")) // which it takes
	}
	return c
}

// SetNetwork moves the network to prefix, with the gateway at .2, the name server at .3 and the guest at .15, as in the
// default one. Bits behind the prefix's length must be zero.
func (c *Config) SetNetwork(prefix netip.Prefix) error {
	a := prefix.Addr()
	switch {
	case !a.Is4():
		return fmt.Errorf("--network %s: want an IPv4 network; --network6 is that of IPv6", prefix)
	case prefix.Bits() > 27 || prefix.Bits() < 8:
		return fmt.Errorf("--network %s: want a length between /8 and /27, to hold the guest at .15", prefix)
	case prefix != prefix.Masked():
		return fmt.Errorf("--network %s: bits are set behind the first %d; write %s", prefix, prefix.Bits(), prefix.Masked())
	case isSpecial(prefix):
		return fmt.Errorf("--network %s: guests cannot have addresses of loopback, link, multicast or class E", prefix)
	}
	c.Prefix = prefix
	host := func(n byte) netip.Addr {
		b := c.Prefix.Addr().As4()
		b[3] += n // the network's last five bits are zero at least
		return netip.AddrFrom4(b)
	}
	c.Gateway, c.DNS, c.Guest = host(2), host(3), host(15)
	b := c.Gateway.As4()
	copy(c.GatewayMAC[2:], b[:])
	return nil
}

// isSpecial reports whether a network of IPv4 has addresses that hosts treat otherwise.
func isSpecial(network netip.Prefix) bool {
	for _, special := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"} {
		if network.Overlaps(netip.MustParsePrefix(special)) {
			return true
		}
	}
	return false
}

// SetNetwork6 moves the network of IPv6 to prefix, with the gateway at ::2, the name server at ::3 and the guest at ::15.
// The zero Prefix takes it away.
func (c *Config) SetNetwork6(prefix netip.Prefix) error {
	c.Prefix6, c.Gateway6, c.DNS6, c.Guest6 = netip.Prefix{}, netip.Addr{}, netip.Addr{}, netip.Addr{}
	if prefix == (netip.Prefix{}) {
		return nil
	}
	a := prefix.Addr()
	special := a.IsMulticast() || a.IsLinkLocalUnicast() || prefix.Overlaps(netip.MustParsePrefix("::/64"))
	if !a.Is6() || a.Is4In6() || prefix.Bits() != 64 || special {
		return fmt.Errorf("--network6 %s: want an IPv6 network of /64, in which guests choose their addresses (RFC 4862)", prefix)
	}
	if prefix != prefix.Masked() {
		return fmt.Errorf("--network6 %s: bits are set behind the first 64; write %s", prefix, prefix.Masked())
	}
	c.Prefix6 = prefix.Masked()
	host := func(n byte) netip.Addr {
		b := c.Prefix6.Addr().As16()
		b[15] = n
		return netip.AddrFrom16(b)
	}
	c.Gateway6, c.DNS6, c.Guest6 = host(2), host(3), host(0x15)
	return nil
}

const (
	minMTU = netpkt.MinMTU4 // DHCP relies on it
	maxMTU = 65520
	// MinMTU6 is the least MTU with which a guest has IPv6 (RFC 8200 section 5). With a smaller one Prefix6 does not count.
	MinMTU6 = 1280
)

// Check returns all that is wrong with c, as far as that can be told without opening a port.
func (c *Config) Check() error {
	var errs *multierror.Error
	if c.MTU < minMTU || c.MTU > maxMTU {
		errs = multierror.Append(errs, fmt.Errorf("--mtu %d: want %d to %d", c.MTU, minMTU, maxMTU))
	}
	if c.ReconnectGrace < 0 {
		errs = multierror.Append(errs, fmt.Errorf("--reconnect-grace %v: want 0 or more", c.ReconnectGrace))
	}
	errs = multierror.Append(errs, c.checkAddresses())
	if c.Measure && c.Shared {
		errs = multierror.Append(errs, errors.New("--measure and --shared-network: the router of a shared network is one of the host's, and vring does not answer for it; leave one out"))
	}
	if c.BootRoot != "" && c.Shared {
		errs = multierror.Append(errs, errors.New("--tftp and --shared-network: the router of a shared network is one of the host's, and vring does not answer for it; leave one out"))
	}
	if c.WindowScale > netpkt.MaxScale {
		errs = multierror.Append(errs, fmt.Errorf("window scale %d: it must be %d at most", c.WindowScale, netpkt.MaxScale))
	}
	errs = multierror.Append(errs, c.checkPolicy()...)
	errs = multierror.Append(errs, c.checkForwards()...)
	errs = multierror.Append(errs, c.checkDirectories()...)
	errs = multierror.Append(errs, hostconf.CheckNames(c.Hostname, c.Domain), hostconf.CheckSearch(c.Search))
	errs = multierror.Append(errs, c.Hosts.Check(c.Prefix, c.Prefix6), c.checkLeases(), multicast.Check(c.Multicast))
	return multierror.Append(errs, c.checkQueues(), c.checkSockets()).ErrorOrNil()
}

// checkLeases returns what is wrong with fixed addresses of hosts.
func (c *Config) checkLeases() error {
	for _, l := range c.Hosts.Leases {
		if slices.Contains([]netip.Addr{c.Gateway, c.DNS, c.Gateway6, c.DNS6}, l.Addr) {
			return fmt.Errorf("--lease %s: the address is that of the router or of the name server; want another one", l)
		}
	}
	return nil
}

// checkResolver returns why nobody could answer at r.
func (c *Config) checkResolver(option string, r dns.Server) error {
	a := r.Addr.Addr().Unmap()
	switch {
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("%s %s: a link-local address is good on one link only; want another address of the resolver", option, r)
	case a.IsUnspecified() || a.IsMulticast() || a == broadcast:
		return fmt.Errorf("%s %s: want the address of one host", option, r)
	case r.Addr.Port() == 0:
		return fmt.Errorf("%s %s: want a port between 1 and 65535", option, r)
	case !a.IsLoopback() && c.isOwn(a):
		return fmt.Errorf("%s %s: the address is in the guest's own network; want a resolver that the host can reach", option, r)
	}
	return nil
}

// checkService returns why no guest could use s.
func (c *Config) checkService(s spec.HostService) error {
	a := s.Addr
	inNetwork := c.isOwn(a)
	switch {
	case a.Is6() && !c.Prefix6.IsValid():
		return fmt.Errorf("host service %s: the guest has no IPv6; write an IPv4 address, or none", s)
	case inNetwork && a != c.Gateway && a != c.Gateway6:
		return fmt.Errorf("host service %s: the address is in the guest's own network; the host is %s there", s, c.Gateway)
	case s.Proto == netpkt.ICMP && inNetwork:
		return fmt.Errorf("host service %s: the router always answers", s)
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// New returns an engine for one queue pair, with the ports of its forwards open. The error tells all that is wrong; for
// each port that cannot be had there is a *forward.BindError in it.
func New(cfg Config) (*Port, error) {
	cfg.Queues = 1
	ports, err := NewPairs(cfg)
	if err != nil {
		return nil, err
	}
	return ports[0], nil
}

// NewPairs returns an engine for cfg.Queues queue pairs of one guest, in their order. Each belongs to a thread of its own;
// all of them must be closed. Errors are those of New.
func NewPairs(cfg Config) (ports []*Port, err error) {
	if cfg.MTU < MinMTU6 {
		_ = cfg.SetNetwork6(netip.Prefix{}) // which it takes
	}
	cfg.EndpointIndependent = cfg.EndpointIndependent || cfg.UDPFiltering != udp.AddressAndPortDependent
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if !cfg.Kernel.IsDivided() {
		cfg.Kernel = cfg.Kernel.Among(1)
	}
	if cfg.resolvers == nil {
		cfg.resolvers = namerelay.NewQuotas()
	}
	g, err := newGuest(&cfg)
	if err != nil {
		return nil, err
	}
	return g.newPorts(&cfg)
}

// networksOf returns the networks of a guest. An address of IPv6 that there is not is the zero one.
func networksOf(cfg *Config) guestnet.Networks {
	v4 := guestnet.Network{Prefix: cfg.Prefix, Gateway: ipaddr.From(cfg.Gateway), DNS: ipaddr.From(cfg.DNS), Guest: ipaddr.From(cfg.Guest)}
	var v6 guestnet.Network
	if cfg.Prefix6.IsValid() {
		v6 = guestnet.Network{Prefix: cfg.Prefix6, Gateway: ipaddr.From(cfg.Gateway6), DNS: ipaddr.From(cfg.DNS6), Guest: ipaddr.From(cfg.Guest6)}
	}
	nets := guestnet.New(v4, v6, cfg.GatewayMAC)
	nets.Shared = cfg.Shared
	if cfg.Prefix6.IsValid() {
		nets.LinkLocal = ipaddr.From(cfg.linkLocal6())
	}
	return nets
}

func (c *Config) checkQueues() error {
	if c.Queues < 1 || c.Queues > shard.MaxPairs {
		return fmt.Errorf("--queues %d: want 1 to %d", c.Queues, shard.MaxPairs)
	}
	return nil
}

// newPort makes the i-th queue pair.
func newPort(cfg *Config, g *guest, i uint32) (*Port, error) {
	p := &Port{guest: g, cfg: cfg, tcpOff: cfg.lacks(TCP), icmpOff: cfg.lacks(ICMP)}
	nets := networksOf(cfg)
	p.turn.SetUp(i, shard.Config{
		MaxFlows: cfg.MaxFlows, MaxSockets: cfg.MaxSockets, Queues: cfg.Queues, GatewayMAC: cfg.GatewayMAC, MTU: cfg.MTU, Others: setOf(cfg.Others),
	}, &g.pairs, &nets)
	p.shard = &p.turn.Shard
	p.adopted = g.policy.Load()
	p.policy = policy.New(p.adopted.rules, &nets, &p.routes)
	p.policy.UseWitness(g.witness, &p.shard.LastTurn)
	p.sleep.begin(cfg.Slept)
	search := searchList(cfg, func() []string { return g.dns.Search(p.shard.LastTurn) })
	servers, err := newServers(cfg, &g.leases, search)
	if err != nil {
		return nil, err
	}
	p.connectParts(servers, g)
	if err := p.open(); err != nil {
		return nil, err
	}
	return p, nil
}

// connectParts gives each part what it uses, before any of them has something to do. No other function reaches into a part. The
// order is that of the parts: each knows only earlier ones, and asks later ones by its hooks.
func (p *Port) connectParts(has servers, g *guest) {
	s, cfg := p.shard, p.cfg
	s.Hooks = p.shardHooks()
	p.link.SetUp(link.Config{NoNDP: cfg.lacks(NDP), NoRouter: cfg.lacks(RouterAdvertisements) || cfg.lacks(NDP)}, s, has.arp, has.ndp, &g.advertiseAt)
	p.link.AnswerFor(p.adopted.rules.Aliases())
	p.ledger.SetUp(s, g.ledger, p.adopted.entered)
	p.icmp.SetUp(s, &p.routes, &p.ledger, icmperr.Hooks{Denying: p.denying, Opening: p.opening})
	p.sources.SetUp(s, &p.routes, g.sources)
	p.fragments.SetUp(s)
	if cfg.Measure {
		p.measuring = measure.NewFinder(s.Nets, &p.policy)
	}
	p.booting = bootserver.NewFinder(g.boot, s.Nets, &p.policy)
	p.tcp.SetUp(tcp.Config{PeekOffset: cfg.PeekOffset, WindowScale: cfg.WindowScale, DHCPv6: ipaddr.From(cfg.Guest6), Services: p.measuring},
		tcp.Uses{Shard: s, Link: &p.link, ICMP: &p.icmp, Policy: &p.policy, Ledger: &p.ledger, Hooks: p.tcpHooks()}, g.tcp)
	p.udp.SetUp(udp.Config{
		Segments: cfg.UDPSegment, GRO: cfg.UDPGRO, EndpointIndependent: cfg.EndpointIndependent, Filtering: cfg.UDPFiltering, Services: p.measuring, Boot: p.booting,
		Off: cfg.lacks(UDP),
	}, udp.Uses{
		Shard: s, Link: &p.link, ICMP: &p.icmp, Sources: &p.sources, Fragments: &p.fragments, Listeners: &p.listeners,
		Policy: &p.policy, Ledger: &p.ledger, Routes: &p.routes, Hooks: p.udpHooks(),
	}, g.udp)
	p.ping.SetUp(ping.Uses{ICMP: &p.icmp, Sources: &p.sources, Fragments: &p.fragments, Policy: &p.policy, Ledger: &p.ledger, Sockets: cfg.Pings}, g.ping)
	p.gates.SetUp(s, &p.link, &g.gates)
	p.inbound.SetUp(inbound.Uses{Shard: s, Listeners: &p.listeners, TCP: &p.tcp, UDP: &p.udp}, &g.forwards)
	p.names.SetUp(&p.turn, nameserver.Uses{Fragments: &p.fragments, TCP: &p.tcp, Policy: &p.policy, Ledger: &p.ledger}, g.names)
	p.names.UseJudge(&namejudge.Judge{
		Policy: &p.policy, Table: g.witness, Counters: &s.Counters, NXDomain: func() bool { return p.adopted.nxdomain },
	})
	p.setUpProof(g)
	p.groups.SetUp(s, &p.policy, g.reflector)
	p.services.SetUp(dhcp.Config{NoV4: cfg.lacks(DHCP), NoV6: cfg.lacks(DHCPv6)}, &p.link, &p.fragments, &g.leases, has.dhcp, has.dhcp6)
	p.assembly.SetUp()
	p.strays.SetUp(s, &p.icmp, &p.groups, &g.told)
	p.reports.SetUp(&p.tcp, &p.udp, &p.gates)
	p.review.SetUp(review.Uses{
		Shard: s, Policy: &p.policy, Routes: &p.routes, News: &p.news, TCP: &p.tcp, UDP: &p.udp, Repoliced: &g.repoliced,
	}, p.adopted.keeps)
	p.presence.SetUp(s, cfg.ReconnectGrace, p.presenceHooks())
	p.onExpired = func(i uint32) { p.expire(&p.turn, p.shard.Flows.At(i)) }
}

// open opens the descriptors that the queue pair has beside its flows, or none.
func (p *Port) open() (err error) {
	routes := p.cfg.Routes
	if routes == nil {
		routes = routesocket.Open
	}
	table, err := routes(false)
	if err != nil {
		return fmt.Errorf("socket for looking up routes: %w", err)
	}
	p.routes.Open(table)
	news, err := routes(true)
	if err != nil {
		p.routes.Close()
		return fmt.Errorf("socket for news of routes: %w", err)
	}
	p.news.Open(news)
	if err := p.shard.OpenMailbox(); err != nil {
		p.news.Close()
		p.routes.Close()
		return fmt.Errorf("mailbox: %w", err)
	}
	return nil
}

func appendValid(dst []netip.Addr, a netip.Addr) []netip.Addr {
	if a.IsValid() {
		dst = append(dst, a)
	}
	return dst
}
