package passtopt

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Action is what is asked for instead of serving a guest.
type Action uint8

// The actions.
const (
	Serve Action = iota
	Help
	Version
	Capabilities
)

// Options are a command line of passt's. An address that was not given is the zero Addr.
type Options struct {
	Action    Action
	VhostUser bool
	Socket    string
	FD        *int
	OneOff    bool

	Foreground, Quiet, Debug bool
	LogFile                  string
	LogSize                  uint64 // 0 is passt's own
	PID                      string
	RunAs                    string // USER, or USER:GROUP, by names or numbers
	Pcap                     string

	MTU                      int
	Address4, Address6       netip.Addr
	Bits4                    int // of the guest's network; -1 if it was not given
	RouterMAC                net.HardwareAddr
	Gateway4, Gateway6       netip.Addr
	Interface                string
	Outbound4, Outbound6     netip.Addr // source addresses
	OutboundIf4, OutboundIf6 string

	DNS                          []netip.Addr
	NoDNS                        bool
	Search                       []string
	NoSearch                     bool
	NoDHCPDNS, NoDHCPSearch      bool
	Hostname, FQDN               string
	DNSForward4, DNSForward6     netip.Addr
	DNSHost4, DNSHost6           netip.Addr
	MapHost4, MapHost6           netip.Addr
	NoMapGateway                 bool
	MapGuest4, MapGuest6         netip.Addr
	Without                      map[string]bool // of tcp, udp, icmp, dhcp, dhcpv6, ndp, ra
	IPv4Only, IPv6Only, Freebind bool

	Ports []Ports  // of -t and -u, in order
	Own   []string // of --vring-option
	Idle  []string // options that are accepted and do nothing

	prefixGiven bool // by an address
	runAsGiven  bool
}

// Ports is a SPEC of -t or -u.
type Ports struct {
	UDP  bool
	Spec string
}

const (
	maxMTU      = 65520
	maxSearch   = 32
	maxServers  = 8   // of each version of IP
	maxPath     = 107 // bytes of the path of a unix socket
	maxName     = 254
	leastLog    = 5 * 8192
	maxIfName   = 15
	pastaOnly   = " is for pasta mode only"
	vhostOnly   = " is for vhost-user mode only"
	defaultMTU  = maxMTU
	octetsOfMAC = 6
)

// Parse reads a command line without the program's name. The error is a Fault: the first one, which passt would have told.
func Parse(words []string) (Options, error) {
	o := Options{MTU: defaultMTU, Bits4: -1, Without: map[string]bool{}}
	o.VhostUser = namesVhostUser(words)
	s := scanner{table: table(), words: slices.Clone(words)}
	for {
		found, value, err := s.next()
		if err != nil {
			return o, err
		}
		if found == nil {
			break
		}
		if err := found.set(&o, value); err != nil {
			return o, err
		}
		if o.Action != Serve {
			return o, nil
		}
	}
	for _, p := range o.Ports {
		if _, err := parsePorts(p.Spec); err != nil {
			return o, err
		}
	}
	if len(s.words) > 0 {
		return o, faultf("Extra non-option argument: %s", s.words[0])
	}
	return o, nil
}

// namesVhostUser reports whether one of the words asks for vhost-user: passt looks for it before all others.
func namesVhostUser(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		name, isLong := strings.CutPrefix(w, "--")
		return isLong && name != "" && strings.HasPrefix("vhost-user", name)
	})
}

// table has all options that passt 2026-10 knows, and one of vring's own.
func table() []option {
	flag := func(long string, short byte, set func(o *Options)) option {
		return option{long, short, false, func(o *Options, _ string) error { set(o); return nil }}
	}
	without := func(name string) option { return flag("no-"+name, 0, func(o *Options) { o.Without[name] = true }) }
	value := func(long string, short byte, set func(o *Options, v string) error) option {
		return option{long, short, true, set}
	}
	pasta := func(long string, short byte, value bool) option {
		return option{long, short, value, func(*Options, string) error { return faultf("--%s%s", long, pastaOnly) }}
	}
	pastaLetter := func(long string, short byte) option {
		return option{long, short, true, func(*Options, string) error { return faultf("-%c%s", short, pastaOnly) }}
	}
	all := []option{
		without("tcp"), without("udp"), without("icmp"), without("dhcp"), without("dhcpv6"), without("ndp"), without("ra"),
		flag("debug", 'd', func(o *Options) { o.Debug, o.Quiet = true, false }),
		flag("quiet", 'q', func(o *Options) { o.Quiet, o.Debug = true, false }),
		flag("trace", 0, func(o *Options) { o.Debug, o.Quiet = true, false }),
		flag("foreground", 'f', func(o *Options) { o.Foreground = true }),
		flag("stderr", 'e', func(*Options) {}),
		flag("help", 'h', func(o *Options) { o.Action = Help }),
		flag("version", 0, func(o *Options) { o.Action = Version }),
		flag("print-capabilities", 0, func(o *Options) { o.Action = Capabilities }),
		flag("vhost-user", 0, func(*Options) {}), // see namesVhostUser
		flag("one-off", '1', func(o *Options) { o.OneOff = true }),
		flag("ipv4-only", '4', func(o *Options) { o.IPv4Only, o.IPv6Only = true, false }),
		flag("ipv6-only", '6', func(o *Options) { o.IPv4Only, o.IPv6Only = false, true }),
		flag("freebind", 0, func(o *Options) { o.Freebind = true }),
		flag("no-map-gw", 0, func(o *Options) { o.NoMapGateway = true }),
		flag("no-dhcp-dns", 0, func(o *Options) { o.NoDHCPDNS = true }),
		flag("no-dhcp-search", 0, func(o *Options) { o.NoDHCPSearch = true }),
		flag("chroot-fallback", 0, func(*Options) {}),
		flag("no-splice", 0, func(*Options) {}),
		flag("migrate-exit", 0, nil), flag("migrate-no-linger", 0, nil), // below
		value("socket", 's', setSocket), value("socket-path", 's', setSocket),
		value("fd", 'F', setFD),
		value("log-file", 'l', func(o *Options, v string) error { o.LogFile = v; return nil }),
		value("log-size", 0, setLogSize),
		value("pid", 'P', path("PID file", func(o *Options) *string { return &o.PID })),
		value("pcap", 'p', path("pcap path", func(o *Options) *string { return &o.Pcap })),
		value("mtu", 'm', setMTU),
		value("address", 'a', setAddress), value("netmask", 'n', setNetmask),
		value("mac-addr", 'M', setMAC), value("gateway", 'g', setGateway),
		value("interface", 'i', func(o *Options, v string) error { o.Interface = v; return nil }),
		value("dns", 'D', setDNS), value("search", 'S', setSearch),
		value("hostname", 'H', name("hostname", func(o *Options) *string { return &o.Hostname })),
		value("fqdn", 0, name("FQDN", func(o *Options) *string { return &o.FQDN })),
		value("dns-forward", 0, setDNSForward), value("dns-host", 0, setDNSHost),
		value("map-host-loopback", 0, setMapHost), value("map-guest-addr", 0, setMapGuest),
		value("tcp-ports", 't', func(o *Options, v string) error { o.Ports = append(o.Ports, Ports{false, v}); return nil }),
		value("udp-ports", 'u', func(o *Options, v string) error { o.Ports = append(o.Ports, Ports{true, v}); return nil }),
		value("outbound", 'o', setOutbound),
		value("outbound-if4", 0, setOutboundIf(func(o *Options) *string { return &o.OutboundIf4 })),
		value("outbound-if6", 0, setOutboundIf(func(o *Options) *string { return &o.OutboundIf6 })),
		value("conf-path", 'c', setConfPath),
		value("repair-path", 0, setRepair),
		value("runas", 0, func(o *Options, v string) error { o.RunAs, o.runAsGiven = v, true; return nil }),
		value("stats", 0, setStats),
		value("vring-option", 0, func(o *Options, v string) error { o.Own = append(o.Own, v); return nil }),
		pastaLetter("ns-ifname", 'I'), pastaLetter("tcp-ns", 'T'), pastaLetter("udp-ns", 'U'),
		pasta("userns", 0, true), pasta("netns", 0, true), pasta("ns-mac-addr", 0, true), pasta("dhcp-dns", 0, false),
		pasta("dhcp-search", 0, false), pasta("no-netns-quit", 0, false), pasta("config-net", 0, false), pasta("no-copy-routes", 0, false),
		pasta("no-copy-addrs", 0, false), pasta("netns-only", 0, false), pasta("host-lo-to-ns-lo", 0, false), pasta("splice-only", 0, false),
	}
	for i := range all {
		if o := &all[i]; strings.HasPrefix(o.long, "migrate-") {
			o.set = func(of *Options, _ string) error {
				if !of.VhostUser {
					return faultf("--%s%s", o.long, vhostOnly)
				}
				return nil
			}
		}
	}
	return all
}

func setSocket(o *Options, v string) error {
	if v == "" || len(v) > maxPath {
		return faultf("Invalid socket path: %s", v)
	}
	o.Socket, o.FD = v, nil
	return nil
}

func setFD(o *Options, v string) error {
	const largest = 1<<31 - 1
	n, ok := number(v, 0)
	if !ok || n > largest {
		return faultf("Invalid --fd: %s", v)
	}
	fd := int(n)
	o.FD, o.Socket, o.OneOff = &fd, "", true
	return nil
}

func setLogSize(o *Options, v string) error {
	n, ok := number(v, 0)
	if !ok || n < leastLog {
		return faultf("Invalid --log-size: %s", v)
	}
	o.LogSize = n
	return nil
}

// path returns what reads the path of a file.
func path(what string, of func(o *Options) *string) func(*Options, string) error {
	const longest = 4095
	return func(o *Options, v string) error {
		if v == "" || len(v) > longest {
			return faultf("Invalid %s: %s", what, v)
		}
		*of(o) = v
		return nil
	}
}

// name returns what reads a name that the guest is told.
func name(what string, of func(o *Options) *string) func(*Options, string) error {
	return func(o *Options, v string) error {
		if len(v) > maxName {
			return faultf("Invalid %s: %s", what, v)
		}
		*of(o) = v
		return nil
	}
}

func setMTU(o *Options, v string) error {
	n, ok := number(v, 0)
	switch {
	case !ok:
		return faultf("Invalid MTU: %s", v)
	case n > maxMTU:
		return faultf("MTU %d too large (max %d)", n, maxMTU)
	}
	o.MTU = int(n)
	return nil
}

// setAddress reads ADDRESS or ADDRESS/BITS.
func setAddress(o *Options, v string) error {
	text, length, has := strings.Cut(v, "/")
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil || a.Zone() != "" {
		return faultf("Invalid guest address: %s", v)
	}
	is4 := a.Is4()
	if o.prefixGiven = has; has {
		bits, ok := number(length, 10)
		switch {
		case !ok:
			return faultf("Invalid guest address: %s", v)
		case o.Bits4 >= 0:
			return faultf("Redundant prefix length specification")
		case bits > uint64(a.BitLen()):
			return faultf("Invalid prefix length: %s", v)
		case is4:
			o.Bits4 = int(bits)
		}
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return faultf("Invalid guest address: %s", v)
	}
	if a.Is4() {
		o.Address4 = a
	} else {
		o.Address6 = a
	}
	return nil
}

// setNetmask reads a mask or a number of bits.
func setNetmask(o *Options, v string) error {
	if o.prefixGiven {
		return faultf("Redundant prefix length specification")
	}
	if mask, err := netip.ParseAddr(v); err == nil && mask.Is4() {
		b := mask.As4()
		if bits, size := net.IPMask(b[:]).Size(); size != 0 {
			o.Bits4 = bits
			return nil
		}
		return faultf("Invalid prefix length: %s", v)
	}
	n, ok := number(v, 0)
	if !ok || n > 32 {
		return faultf("Invalid prefix length: %s", v)
	}
	o.Bits4 = int(n)
	return nil
}

func setMAC(o *Options, v string) error {
	mac, err := net.ParseMAC(v)
	if err != nil || len(mac) != octetsOfMAC || len(v) != octetsOfMAC*3-1 || strings.ContainsAny(v, "-.") {
		return faultf("Invalid MAC address: %s", v)
	}
	o.RouterMAC = mac
	return nil
}

// broadcast is everybody's on the link.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// each reads an address for one of two places, by its version of IP. ok says which it may be.
func each(v, fault string, four, six *netip.Addr, ok func(a netip.Addr) bool) error {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || !ok(a) {
		return faultf("%s: %s", fault, v)
	}
	if a.Is4() {
		*four = a
	} else {
		*six = a
	}
	return nil
}

func isHost(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsLoopback() && a != broadcast }

func setGateway(o *Options, v string) error {
	return each(v, "Invalid gateway address", &o.Gateway4, &o.Gateway6, isHost)
}

func setDNSForward(o *Options, v string) error {
	return each(v, "Invalid DNS forwarding address", &o.DNSForward4, &o.DNSForward6, isHost)
}

func setDNSHost(o *Options, v string) error {
	ok := func(a netip.Addr) bool { return !a.IsUnspecified() && a != broadcast }
	return each(v, "Invalid host nameserver address", &o.DNSHost4, &o.DNSHost6, ok)
}

// mappable reports whether an address can stand for another one.
func mappable(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() }

func setMapHost(o *Options, v string) error {
	if v == "none" {
		o.MapHost4, o.MapHost6, o.NoMapGateway = netip.Addr{}, netip.Addr{}, true
		return nil
	}
	return each(v, "Invalid address to remap to host", &o.MapHost4, &o.MapHost6, mappable)
}

func setMapGuest(o *Options, v string) error {
	if v == "none" {
		o.MapGuest4, o.MapGuest6 = netip.Addr{}, netip.Addr{}
		return nil
	}
	return each(v, "Invalid address to remap to host", &o.MapGuest4, &o.MapGuest6, mappable)
}

func setDNS(o *Options, v string) error {
	if v == "none" {
		o.NoDNS, o.DNS = true, nil
		o.DNSForward4, o.DNSForward6, o.DNSHost4, o.DNSHost6 = netip.Addr{}, netip.Addr{}, netip.Addr{}, netip.Addr{}
		return nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" {
		return faultf("Cannot use DNS address %s", v)
	}
	o.NoDNS = false
	if len(ofVersion(o.DNS, a.Is4())) < maxServers {
		o.DNS = append(o.DNS, a)
	}
	return nil
}

func setSearch(o *Options, v string) error {
	switch {
	case v == "none":
		o.NoSearch, o.Search = true, nil
		return nil
	case v == "" || len(v) > maxName || len(o.Search) >= maxSearch:
		return faultf("Cannot use DNS search domain %s", v)
	}
	o.NoSearch = false
	o.Search = append(o.Search, strings.Fields(v)...)
	return nil
}

func setOutbound(o *Options, v string) error {
	ok := func(a netip.Addr) bool { return isHost(a) && !a.IsMulticast() && !a.Is4In6() }
	return each(v, "Invalid or redundant outbound address", &o.Outbound4, &o.Outbound6, ok)
}

// setOutboundIf returns the setter of an interface to leave by.
func setOutboundIf(name func(*Options) *string) func(*Options, string) error {
	return func(o *Options, v string) error {
		if v == "" || len(v) > maxIfName {
			return faultf("Invalid interface name: %s", v)
		}
		*name(o) = v
		return nil
	}
}

// What is said of options that are accepted and do nothing.
const (
	idleConf   = "--conf-path is accepted, and no socket is made: vring does not speak pesto's protocol; --vring-option control=PATH makes a socket of its own"
	idleRepair = "--repair-path is accepted, and no socket is made: vring lets no helper set TCP_REPAIR"
	idleStats  = "--stats is accepted, and no table is printed: SIGUSR1 prints the counters"
)

func setRepair(o *Options, v string) error {
	switch {
	case v == "none":
		return nil
	case !o.VhostUser:
		return faultf("--repair-path%s", vhostOnly)
	case len(v) > maxPath:
		return faultf("Invalid passt-repair path: %s", v)
	}
	o.Idle = append(o.Idle, idleRepair)
	return nil
}

func setConfPath(o *Options, v string) error {
	if v == "" || len(v) > maxPath {
		return faultf("Invalid configuration path: %s", v)
	}
	o.Idle = append(o.Idle, idleConf)
	return nil
}

func setStats(o *Options, _ string) error {
	if !o.Foreground {
		return faultf("Can't display statistics if not running in foreground")
	}
	o.Idle = append(o.Idle, idleStats)
	return nil
}

// number reads one as strtoul(3) does, and all of the text. base 0 reads hexadecimal and octal numbers as well.
func number(text string, base int) (uint64, bool) {
	text = strings.TrimPrefix(strings.TrimLeft(text, " \t\n\v\f\r"), "+")
	if base == 0 {
		base = 10
		switch lower := strings.ToLower(text); {
		case strings.HasPrefix(lower, "0x"):
			text, base = text[2:], 16
		case len(text) > 1 && text[0] == '0':
			text, base = text[1:], 8
		}
	}
	n, err := strconv.ParseUint(text, base, 64)
	return n, err == nil
}

// ofVersion returns the addresses of one version of IP.
func ofVersion(all []netip.Addr, is4 bool) (of []netip.Addr) {
	for _, a := range all {
		if a.Is4() == is4 {
			of = append(of, a)
		}
	}
	return of
}
