package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// Rule opens or closes a range of destinations to the guest. Of Config.Rules the first that matches decides. What rules
// cannot open is said in the package's documentation, under Policy.
type Rule struct {
	Allow  bool
	Proto  uint8        // unix.IPPROTO_TCP, IPPROTO_UDP or IPPROTO_ICMP; 0 stands for all
	Prefix netip.Prefix // of the destination's address
	// First and Last bound the destination's port, Last included. Both 0 stand for all ports, and for ICMP, which has
	// none: a rule with ports does not match it.
	First, Last uint16
}

// ParseRule reads RuleForm. An address without BITS stands for itself alone. In front of ports an IPv6 network is written in
// brackets, together with its length. The error names the part that is wrong, or says what to write.
func ParseRule(text string, allow bool) (Rule, error) {
	r := Rule{Allow: allow}
	err := r.parse(text)
	if err == nil {
		return r, nil
	}
	option := "--deny "
	if allow {
		option = "--allow "
	}
	if strings.Contains(text, ",") {
		return r, fmt.Errorf("rule %q: an option holds one rule; write %s once for each", text, strings.TrimSpace(option))
	}
	if c, ok := correctRule(text, " "+option); ok {
		return r, fmt.Errorf("rule %q: %s; write %s%s", text, c.why, option, c.text)
	}
	return r, fmt.Errorf("rule %q: %w; want %s, as in tcp:192.0.2.0/24:443 or tcp:[2001:db8::/32]:443", text, err, RuleForm)
}

func (r *Rule) parse(text string) (err error) {
	rest := text
	switch name, after, _ := strings.Cut(text, ":"); name {
	case "tcp":
		r.Proto, rest = protoTCP, after
	case "udp":
		r.Proto, rest = protoUDP, after
	case "icmp":
		r.Proto, rest = protoICMP, after
	}
	network, ports, hasPorts := cutPorts(rest)
	if r.Prefix, err = parseNetwork(network); err != nil || !hasPorts {
		return err
	}
	if r.Proto == protoICMP {
		return errors.New("ICMP has no ports")
	}
	r.First, r.Last, err = parsePortRange(ports)
	return err
}

// cutPorts cuts what stands in front of ports, an IPv6 network in brackets, from the ports.
func cutPorts(text string) (network, ports string, hasPorts bool) {
	inside, after, found := strings.Cut(strings.TrimPrefix(text, "["), "]")
	if strings.HasPrefix(text, "[") && found {
		ports, hasPorts = strings.CutPrefix(after, ":")
		return inside, ports, hasPorts || after != ""
	}
	first, rest, _ := strings.Cut(text, ":")
	if strings.Contains(rest, ":") && strings.Trim(first, "0123456789abcdefABCDEF") == "" {
		return text, "", false // IPv6
	}
	return strings.Cut(text, ":")
}

// parseAddress reads an address of either version.
func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is not an IP address", text)
	case a.Zone() != "":
		return a, fmt.Errorf("%q has a zone: it is good on one link only, and the guest's is not the host's", text)
	case a.Is4In6():
		return a, fmt.Errorf("%q is an IPv4 address, and reads %s", text, a.Unmap())
	}
	return a, nil
}

// parseNetwork reads ADDRESS[/BITS].
func parseNetwork(text string) (netip.Prefix, error) {
	addr, bits, hasBits := strings.Cut(text, "/")
	a, err := parseAddress(addr)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !hasBits {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not a length between 0 and %d", bits, a.BitLen())
	}
	if m := p.Masked(); m != p {
		return p, fmt.Errorf("%s has bits set behind its first %d; %s was meant, or %s", p, p.Bits(), m, a)
	}
	return p, nil
}

// parsePortRange reads PORT[-LAST].
func parsePortRange(text string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if first, err = parsePort(from); err != nil || !isRange {
		return first, first, err
	}
	if last, err = parsePort(to); err != nil {
		return first, last, err
	}
	if last < first {
		return first, last, fmt.Errorf("the range %q ends before it begins", text)
	}
	return first, last, nil
}

// String returns r as ParseRule reads it.
func (r Rule) String() string {
	text := r.Prefix.String()
	if r.Prefix.Addr().Is6() && r.Last != 0 {
		text = "[" + text + "]"
	}
	if r.Proto != 0 {
		text = protoName(r.Proto) + ":" + text
	}
	switch {
	case r.First == 0 && r.Last == 0:
		return text
	case r.First == r.Last:
		return fmt.Sprintf("%s:%d", text, r.First)
	}
	return fmt.Sprintf("%s:%d-%d", text, r.First, r.Last)
}

// NamesLinkLocal reports whether all of r's network is link-local, or of a cloud's metadata: what is closed unless a rule
// for nothing else opens it.
func (r Rule) NamesLinkLocal() bool {
	return isCloseBy(r.Prefix)
}

// check tells why r could never match anything, which its author did not mean. own are the guest's networks.
func (r *Rule) check(own ...netip.Prefix) error {
	a := r.Prefix.Addr()
	within := func(p netip.Prefix) bool { return p.Overlaps(r.Prefix) && r.Prefix.Bits() >= p.Bits() }
	switch {
	case !r.Prefix.IsValid() || a.Is4In6():
		return fmt.Errorf("rule %s: invalid prefix", r)
	case r.Last < r.First || r.First == 0 && r.Last != 0:
		return fmt.Errorf("rule %s: ports go from 1 to 65535, and a range ends after it begins", r)
	case slices.ContainsFunc(own, within):
		return fmt.Errorf("rule %s: that is the guest's own network, where rules do not matter", r)
	case r.Allow && a.IsLoopback() && (a.Is6() || r.Prefix.Bits() >= 8):
		return fmt.Errorf("rule %s: rules do not open the host's loopback; name the service by --allow-host", r)
	}
	return nil
}

// filters are rules as they are matched: one after the other, without a pointer to follow, for each new flow.
type filters []filter

// filter is one rule. Addresses are 16 bytes long, IPv4 mapped, so that there is one way only to write each of them.
type filter struct {
	network, mask [2]uint64
	first, last   uint16
	proto         uint8 // 0 for all
	is4           bool
	allow         bool
	linkLocal     bool // the network is a link-local one
}

func newFilters(rules []Rule) filters {
	list := make(filters, 0, len(rules))
	for _, r := range rules {
		network := ipaddr.From(r.Prefix.Addr())
		f := filter{
			network: network.Words(), mask: maskWords(r.Prefix.Bits() + 128 - r.Prefix.Addr().BitLen()),
			first: r.First, last: r.Last, proto: r.Proto, is4: r.Prefix.Addr().Is4(), allow: r.Allow,
			linkLocal: r.NamesLinkLocal(),
		}
		if f.first == 0 && f.last == 0 {
			f.last = 65535
		}
		f.network[0] &= f.mask[0]
		f.network[1] &= f.mask[1]
		list = append(list, f)
	}
	return list
}

// maskWords has its first bits bits set.
func maskWords(bits int) [2]uint64 {
	const all = ^uint64(0)
	if bits <= 64 {
		return [2]uint64{all << (64 - bits), 0}
	}
	return [2]uint64{all, all << (128 - bits)}
}

// match returns the first rule that speaks of a destination, nil if none does. To open link-local addresses takes a
// rule that names nothing else: who opens everything hardly means the cloud's credentials.
func (l filters) match(proto uint8, to *ipaddr.Endpoint, linkLocal bool) *filter {
	at, is4 := to.Addr.Words(), to.Addr.Is4()
	for i := range l {
		f := &l[i]
		if (at[1]^f.network[1])&f.mask[1] != 0 || (at[0]^f.network[0])&f.mask[0] != 0 {
			continue
		}
		if is4 != f.is4 || to.Port < f.first || to.Port > f.last || f.proto != 0 && f.proto != proto {
			continue
		}
		if f.allow && linkLocal && !f.linkLocal {
			continue
		}
		return f
	}
	return nil
}
