package daemon

import (
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// What follows reads values as users write them, on a command line or in a file. Errors are faults.

// Forms of values that ParseCPUs and ParseResolver read.
const (
	CPUListForm  = "numbers of processors and ranges of them, as in 2,4-7"
	ResolverForm = dns.ServerForm
)

const (
	maxCPU  = 1023 // is what the kernel's masks of package unix hold
	maxCPUs = 4096 // bounds a list, in which a processor may be more than once
)

// ParseCPUs reads a list of processors: CPUListForm.
func ParseCPUs(text string) (all []int, err error) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, ok := parseCPURange(part)
		if !ok {
			return nil, faultf("%s %q: want %s", optionCPUs, text, CPUListForm)
		}
		if len(all)+last-first >= maxCPUs {
			return nil, faultf("%s %q: want %d processors at most", optionCPUs, text, maxCPUs)
		}
		for cpu := first; cpu <= last; cpu++ {
			all = append(all, cpu)
		}
	}
	return all, nil
}

// parseCPURange reads N or N-M.
func parseCPURange(text string) (first, last int, ok bool) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, errFirst := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	return first, last, errFirst == nil && errLast == nil && first >= 0 && last >= first && last <= maxCPU
}

// FormatCPUs writes a list of processors as users do: numbers and ranges of them, as in 2,4-7.
func FormatCPUs(cpus []int) string {
	var parts []string
	for i := 0; i < len(cpus); {
		last := i
		for last+1 < len(cpus) && cpus[last+1] == cpus[last]+1 {
			last++
		}
		part := strconv.Itoa(cpus[i])
		if last > i {
			part += "-" + strconv.Itoa(cpus[last])
		}
		parts, i = append(parts, part), last+1
	}
	return strings.Join(parts, ",")
}

// LogLevels are the values of Log.Level as users write them.
func LogLevels() []string { return []string{"debug", "info", "warn", "error"} }

// ParseLogLevel reads one of LogLevels, in any case.
func ParseLogLevel(text string) (Log, error) {
	var l Log
	if !slices.Contains(LogLevels(), strings.ToLower(text)) {
		return l, faultf("%s %q: want debug, info, warn or error", optionLogLevel, text)
	}
	return l, l.Level.UnmarshalText([]byte(text))
}

// ParseSocketMode reads the permissions of a socket, in octal.
func ParseSocketMode(text string) (os.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode == 0 || mode > 0o777 {
		return 0, faultf("%s %q: want octal permissions, as in 0660", optionSocketMode, text)
	}
	return os.FileMode(mode), nil
}

// LookupGroup returns the number of a group that is given by its name or number. It reads the host's files.
func LookupGroup(text string) (int, error) {
	if id, err := strconv.ParseUint(text, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(text)
	if err != nil {
		return 0, faultf("%s %q: there is no such group", optionSocketGroup, text)
	}
	return strconv.Atoi(g.Gid)
}

// ParseMAC reads the address of an Ethernet interface.
func ParseMAC(option Option, text string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return nil, faultf("%s %q: want an Ethernet address, as in fe:54:00:12:34:56", option, text)
	}
	return mac, nil
}

// ParseBound reads an address of IP, or a network, that a guest on a switch is bound to.
func ParseBound(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		return p, faultf("%s %q: want an address or a network, as in 192.0.2.1 or fe80::/64", optionIP, text)
	}
	return p, nil
}

// FormatBound writes what ParseBound reads.
func FormatBound(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// ParseNetwork reads the network of IPv4.
func ParseNetwork(text string) (netip.Prefix, error) {
	return parseNetwork(optionNetwork, text, "10.0.2.0/24", 24)
}

// NoNetwork6 stands for the network of IPv6 that a guest does not have.
const NoNetwork6 = "off"

// SetNetwork6 gives n the network of IPv6 that a text says, which may be NoNetwork6.
func (n *NAT) SetNetwork6(text string) (err error) {
	if n.NoIPv6 = text == NoNetwork6; n.NoIPv6 {
		return nil
	}
	n.Network6, err = parseNetwork(optionNetwork6, text, "fd00:10:0:2::/64, or "+NoNetwork6, 64)
	return err
}

// parseNetwork reads a network. The fault says how it is written; usual is the length of one that is given without.
func parseNetwork(option Option, text, example string, usual int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err == nil {
		return p, nil
	}
	if right := spec.CorrectNetwork(text, usual); right != "" {
		return p, faultf("%s %q: want an address and a length; write %s %s", option, text, option, right)
	}
	return p, faultf("%s %q: want an address and a length, as in %s", option, text, example)
}

// NoSearch stands for search domains that guests are not told of.
const NoSearch = "none"

// AddSearch adds a domain in which guests look names up, or NoSearch.
func (n *NAT) AddSearch(domain string) {
	if domain == NoSearch {
		n.NoSearch = true
		return
	}
	n.Search = append(n.Search, domain)
}

// ParseResolver reads ResolverForm.
func ParseResolver(text string) (dns.Server, error) {
	s, err := dns.ParseServer(text)
	if err == nil {
		return s, nil
	}
	if strings.Contains(text, ",") {
		return dns.Server{}, faultf("%s %q: an option holds one resolver; write %s once for each", optionDNS, text, optionDNS)
	}
	// With dnsmasq's # in front of the port, or with systemd-resolved's in front of the name that a certificate has.
	for _, fixed := range []string{strings.Replace(text, "#", ":", 1), "tls://" + text} {
		if _, err := dns.ParseServer(fixed); err == nil && fixed != text {
			return dns.Server{}, faultf("%s %q: want %s; write %s %s", optionDNS, text, ResolverForm, optionDNS, fixed)
		}
	}
	return dns.Server{}, faultf("%s %q: want %s with an IP address, not a name, as in 127.0.0.1:5353, [::1]:5353 or tls://9.9.9.9#dns.quad9.net; %w",
		optionDNS, text, ResolverForm, err)
}

// ParseRoute reads the resolvers of a domain, as dns.ParseRoute does.
func ParseRoute(text string) (dns.Route, error) {
	r, err := dns.ParseRoute(text)
	if err != nil {
		return dns.Route{}, faultf("%s %w", optionDNSFor, err)
	}
	return r, nil
}

// ServerOf returns what reads the address of a server of an option, as ParseServer does.
func ServerOf(option Option) func(text string) (netip.Addr, error) {
	return func(text string) (netip.Addr, error) { return ParseServer(option, text) }
}

// ParseServer reads the address of a server of an option.
func ParseServer(option Option, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, faultf("%s %q: want an IP address, as in 192.0.2.123; names are not looked up here", option, text)
	}
	return a.Unmap(), nil
}
