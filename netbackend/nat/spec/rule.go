package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
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

	Named Named // what a rule by name is about, instead of Prefix, First and Last; see ParseNameRule
	Way   Way   // how what the rule allows leaves the host
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
		return r, fmt.Errorf("rule %q: an option holds one rule; write %s once for each", MaskSecrets(text), strings.TrimSpace(option))
	}
	if c, ok := correctRule(text, " "+option); ok {
		return r, fmt.Errorf("rule %q: %s; write %s%s", MaskSecrets(text), c.why, option, c.text)
	}
	return r, fmt.Errorf("rule %q: %w; want %s, as in tcp:192.0.2.0/24:443 or tcp:[2001:db8::/32]:443", MaskSecrets(text), err, RuleForm)
}

// ParseDestination reads RuleForm for what is to be found rather than judged. The Rule's Allow is false.
func ParseDestination(text string) (r Rule, err error) {
	if strings.Contains(text, ";") {
		return Rule{}, fmt.Errorf("%q: a destination has no keys; want %s", text, RuleForm)
	}
	if err := r.parse(text); err != nil {
		return Rule{}, fmt.Errorf("%q: %w; want %s, as in tcp:192.0.2.0/24:443 or tcp:[2001:db8::/32]:443", text, err, RuleForm)
	}
	return r, nil
}

// Matches reports whether r is about a destination. ICMP has no ports.
func (r *Rule) Matches(proto uint8, to netip.AddrPort) bool {
	if r.Proto != 0 && r.Proto != proto || !r.Prefix.Contains(to.Addr()) {
		return false
	}
	return r.First == 0 && r.Last == 0 || proto != protoICMP && r.First <= to.Port() && to.Port() <= r.Last
}

func (r *Rule) parse(text string) (err error) {
	rest, keys, hasKeys := strings.Cut(text, ";")
	if hasKeys {
		if err := r.parseKeys(keys); err != nil {
			return err
		}
	}
	switch name, after, _ := strings.Cut(rest, ":"); name {
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

// String returns r for users and logs: without the password of a proxy as ParseRule reads it, or ParseNameRule if it is by name.
func (r Rule) String() string { return r.text(r.Way.String()) }

// Text returns r as ParseRule or ParseNameRule reads it, with the password of a proxy.
func (r *Rule) Text() string { return r.text(r.Way.Text()) }

func (r *Rule) text(way string) string {
	text := r.addressText
	if r.IsByName() {
		text = r.namedText
	}
	if way != "" {
		way = ";" + way
	}
	return text() + way
}

// addressText returns what ParseRule reads.
func (r *Rule) addressText() string {
	text := r.Prefix.String()
	if r.Prefix.Addr().Is6() && r.Last != 0 {
		text = "[" + text + "]"
	}
	if r.Proto != 0 {
		text = ProtoName(r.Proto) + ":" + text
	}
	switch {
	case r.First == 0 && r.Last == 0:
		return text
	case r.First == r.Last:
		return fmt.Sprintf("%s:%d", text, r.First)
	}
	return fmt.Sprintf("%s:%d-%d", text, r.First, r.Last)
}

// Check tells why r could never match anything, which its author did not mean. own are the guest's networks.
func (r *Rule) Check(own ...netip.Prefix) error {
	if r.IsByName() {
		return r.checkNamed()
	}
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
	return r.checkWay()
}
