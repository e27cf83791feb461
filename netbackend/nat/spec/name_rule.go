package spec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// NameRuleForm is what ParseNameRule reads.
const NameRuleForm = "[tcp:|udp:]NAME[:PORT[-LAST][,PORT[-LAST]]...][;KEY[=VALUE]]..."

// Verify is what tells that a connection is to the name of a rule.
type Verify uint8

const (
	VerifyByPort Verify = iota // TLS on port 443, HTTP on port 80, else the name service alone
	VerifyDNS                  // the name service has answered the name with that address
	VerifyTLS                  // and the ClientHello names it
	VerifyHTTP                 // and each request's Host names it
)

// String returns v as a rule has it.
func (v Verify) String() string { return [...]string{"", "dns", "tls", "http"}[v] }

// Ports is a range of ports, Last included.
type Ports struct{ First, Last uint16 }

// maxPortRanges is how many ranges a rule can have.
const maxPortRanges = 64

// Named is what a rule by name is about. The zero Named is that of a rule by address.
type Named struct {
	Name    string  // as ParseName returns it, or "@" and the name of a group
	Ports   []Ports // of TCP or UDP, in order and apart from each other; none stand for all
	Verify  Verify
	Listed  bool // chain=listed: each name that the answer's CNAME records lead to must be one of a rule that allows it, too
	Private bool // the name may have addresses in private networks
	QUIC    bool // quic=verify: UDP to ports on which TLS is verified is open if the first packets of QUIC name the name; else it is closed
}

// IsByName reports whether r is a rule by name: its Prefix, First and Last are zero then.
func (r *Rule) IsByName() bool { return r.Named.Name != "" }

// AllowsName reports whether r is a rule by name that allows.
func (r *Rule) AllowsName() bool { return r.Allow && r.IsByName() }

// VerifyAt is what tells that a connection to a port is to the name: never VerifyByPort.
func (n *Named) VerifyAt(port uint16) Verify {
	switch {
	case n.Verify != VerifyByPort:
		return n.Verify
	case port == 443:
		return VerifyTLS
	case port == 80:
		return VerifyHTTP
	}
	return VerifyDNS
}

// Covers reports whether a port is one of n's.
func (n *Named) Covers(port uint16) bool {
	if len(n.Ports) == 0 {
		return true
	}
	for _, p := range n.Ports {
		if p.First <= port && port <= p.Last {
			return true
		}
	}
	return false
}

// Option is the option of the command line that r is the value of.
func (r *Rule) Option() string {
	option := "--deny"
	if r.Allow {
		option = "--allow"
	}
	if r.IsByName() {
		option += "-name"
	}
	return option
}

// ParseNameRule reads NameRuleForm. The error names the part that is wrong.
func ParseNameRule(text string, allow bool) (Rule, error) {
	r := Rule{Allow: allow}
	if err := r.parseNamed(text); err != nil {
		return r, fmt.Errorf("rule %q: %w; want %s, as in *.example.org:80,443", MaskSecrets(text), err, NameRuleForm)
	}
	return r, nil
}

func (r *Rule) parseNamed(text string) (err error) {
	front, keys, hasKeys := strings.Cut(text, ";")
	name, ports, hasPorts := strings.Cut(front, ":")
	switch name {
	case "tcp", "udp":
		r.Proto = protoTCP
		if name == "udp" {
			r.Proto = protoUDP
		}
		name, ports, hasPorts = strings.Cut(ports, ":")
	case "icmp":
		return errors.New("ICMP has no names; name an address, by --allow icmp:ADDRESS")
	}
	if group, isGroup := strings.CutPrefix(name, "@"); isGroup {
		r.Named.Name, err = name, ParseGroupName(group)
	} else {
		r.Named.Name, err = ParseName(name)
	}
	if err != nil {
		return err
	}
	if hasPorts {
		if r.Named.Ports, err = parsePortList(ports); err != nil {
			return err
		}
	}
	if !hasKeys {
		return nil
	}
	return r.parseKeys(keys)
}

// parsePortList reads PORT[-LAST] several times, and puts it in order.
func parsePortList(text string) (list []Ports, err error) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, err := parsePortRange(part)
		if err != nil {
			return nil, err
		}
		list = append(list, Ports{first, last})
	}
	slices.SortFunc(list, func(a, b Ports) int { return int(a.First) - int(b.First) })
	joined := list[:1]
	for _, p := range list[1:] {
		if end := &joined[len(joined)-1]; int(p.First) <= int(end.Last)+1 {
			end.Last = max(end.Last, p.Last)
			continue
		}
		joined = append(joined, p)
	}
	return joined, nil
}

// parseKeys reads what stands behind a rule's destination, each behind a ";".
func (r *Rule) parseKeys(text string) error {
	for part := range strings.SplitSeq(text, ";") {
		key, value, hasValue := strings.Cut(part, "=")
		known, err := r.parseKey(key, value)
		switch {
		case err != nil:
			return err
		case !known:
			return fmt.Errorf("%q is not a key of a rule", key)
		case hasValue && (key == "private"):
			return fmt.Errorf("%q has no value", key)
		}
	}
	return nil
}

func (r *Rule) parseKey(key, value string) (known bool, err error) {
	if known, err = r.Way.Take(key, value); known {
		return true, err
	}
	if !r.IsByName() {
		return false, nil
	}
	bad := func(want string) (bool, error) { return true, fmt.Errorf("%s=%s: want %s", key, value, want) }
	switch key {
	case "verify":
		v := slices.Index([]string{"dns", "tls", "http"}, value)
		if v < 0 {
			return bad("dns, tls or http")
		}
		r.Named.Verify = VerifyDNS + Verify(v)
	case "chain":
		if value != "any" && value != "listed" {
			return bad("any or listed")
		}
		r.Named.Listed = value == "listed"
	case "quic":
		if value != "verify" {
			return bad("verify")
		}
		r.Named.QUIC = true
	case "private":
		r.Named.Private = true
	default:
		return false, nil
	}
	return true, nil
}

// namedText returns what ParseNameRule reads.
func (r *Rule) namedText() string {
	n := &r.Named
	text := n.Name
	if r.Proto != 0 {
		text = ProtoName(r.Proto) + ":" + text
	}
	for i, p := range n.Ports {
		text += map[bool]string{true: ":", false: ","}[i == 0] + strconv.Itoa(int(p.First))
		if p.Last != p.First {
			text += "-" + strconv.Itoa(int(p.Last))
		}
	}
	if n.Verify != VerifyByPort {
		text += ";verify=" + n.Verify.String()
	}
	for _, k := range []struct {
		is   bool
		text string
	}{{n.Listed, ";chain=listed"}, {n.Private, ";private"}, {n.QUIC, ";quic=verify"}} {
		if k.is {
			text += k.text
		}
	}
	return text
}

// checkNamed is Check for a rule by name.
func (r *Rule) checkNamed() error {
	n := &r.Named
	switch {
	case r.Prefix.IsValid() || r.First != 0 || r.Last != 0:
		return fmt.Errorf("rule %s: it is by name and by address", r)
	case r.Proto != 0 && r.Proto != protoTCP && r.Proto != protoUDP:
		return fmt.Errorf("rule %s: want TCP or UDP", r)
	case len(n.Ports) > maxPortRanges:
		return fmt.Errorf("rule %s: %d ranges of ports; there may be %d", r, len(n.Ports), maxPortRanges)
	case !r.Allow && (n.Listed || n.Private):
		return fmt.Errorf("rule %s: chain=listed and private are for rules that allow", r)
	case n.QUIC && r.Proto == protoTCP:
		return fmt.Errorf("rule %s: quic=verify is about UDP, and the rule is about TCP", r)
	case n.QUIC && !n.verifiesTLS():
		return fmt.Errorf("rule %s: quic=verify is about ports with TLS, of which it has none: write port 443 or verify=tls", r)
	}
	return r.checkWay()
}

// verifiesTLS reports whether connections to some of n's ports must name n in TLS.
func (n *Named) verifiesTLS() bool {
	return n.Verify == VerifyTLS || n.Verify == VerifyByPort && n.Covers(443)
}

// checkWay tells what is wrong with the way of r.
func (r *Rule) checkWay() error {
	if !r.Allow && r.Way != (Way{}) {
		return fmt.Errorf("rule %s: what is denied takes no way", r)
	}
	if err := r.Way.Check(); err != nil {
		return fmt.Errorf("rule %s: %w", r, err)
	}
	return nil
}
