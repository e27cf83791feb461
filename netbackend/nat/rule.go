package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
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

// ruleForm is what a rule reads like.
const ruleForm = "[tcp:|udp:|icmp:]ADDRESS[/BITS][:PORT[-LAST]], as in tcp:192.0.2.0/24:443"

// ParseRule reads [tcp:|udp:|icmp:]ADDRESS[/BITS][:PORT[-LAST]]. An address without BITS stands for itself alone. The
// error names the part that is wrong.
func ParseRule(text string, allow bool) (Rule, error) {
	r := Rule{Allow: allow}
	if err := r.parse(text); err != nil {
		return r, fmt.Errorf("rule %q: %w; it reads %s", text, err, ruleForm)
	}
	return r, nil
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
	network, ports, hasPorts := strings.Cut(rest, ":")
	if r.Prefix, err = parseNetwork(network); err != nil || !hasPorts {
		return err
	}
	if r.Proto == protoICMP {
		return errors.New("ICMP has no ports")
	}
	r.First, r.Last, err = parsePortRange(ports)
	return err
}

// parseNetwork reads ADDRESS[/BITS].
func parseNetwork(text string) (netip.Prefix, error) {
	addr, bits, hasBits := strings.Cut(text, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is4() {
		return netip.Prefix{}, fmt.Errorf("%q is not an IPv4 address", addr)
	}
	if !hasBits {
		return netip.PrefixFrom(a, 32), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not a length between 0 and 32", bits)
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

// check tells why r could never match anything, which its author did not mean.
func (r *Rule) check(own netip.Prefix) error {
	a := r.Prefix.Addr()
	switch {
	case !r.Prefix.IsValid() || !a.Is4():
		return fmt.Errorf("rule %s: only IPv4 networks so far", r)
	case r.Last < r.First || r.First == 0 && r.Last != 0:
		return fmt.Errorf("rule %s: ports go from 1 to 65535, and a range ends after it begins", r)
	case own.Overlaps(r.Prefix) && r.Prefix.Bits() >= own.Bits():
		return fmt.Errorf("rule %s: that is the guest's own network, where rules do not matter", r)
	case r.Allow && a.IsLoopback() && r.Prefix.Bits() >= 8:
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
	allow         bool
	linkLocal     bool // the network is a link-local one
}

func newFilters(rules []Rule) filters {
	list := make(filters, 0, len(rules))
	for _, r := range rules {
		network := addressFrom(r.Prefix.Addr())
		f := filter{
			network: network.words(), mask: maskWords(r.Prefix.Bits() + 128 - r.Prefix.Addr().BitLen()),
			first: r.First, last: r.Last, proto: r.Proto, allow: r.Allow,
			linkLocal: r.Prefix.Addr().IsLinkLocalUnicast() && r.Prefix.Bits() >= 16,
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

// words is a in host order, for comparing.
func (a *address) words() [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
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
func (l filters) match(proto uint8, to *endpoint, linkLocal bool) *filter {
	at := to.addr.words()
	for i := range l {
		f := &l[i]
		if (at[1]^f.network[1])&f.mask[1] != 0 || (at[0]^f.network[0])&f.mask[0] != 0 {
			continue
		}
		if to.port < f.first || to.port > f.last || f.proto != 0 && f.proto != proto {
			continue
		}
		if f.allow && linkLocal && !f.linkLocal {
			continue
		}
		return f
	}
	return nil
}
