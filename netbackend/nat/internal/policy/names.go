package policy

import (
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Rules by name are found by the name, whatever their number: those that name it, and those that name one of the names that it is below.
// Rules with a "*" within a label are found by what stands behind that label, and by what stands in front of the "*" in it. Of those
// that are found, and that speak of the protocol and port, the first in the list counts.

// Proof is how a connection can tell the name that it is to: a set.
type Proof uint8

const (
	ProofTLS  Proof = 1 << iota // by the server name of its ClientHello
	ProofHTTP                   // by the Host of each request
	ProofQUIC                   // by the server name of the ClientHello in its first packets
	never                       // it cannot
)

// nameRules are rules by name as they are asked.
type nameRules struct {
	list   []nameRule         // in their order
	exact  map[string][]int32 // rules in list, in their order
	below  map[string][]int32 // for names below this one
	wild   map[wildKey][]wildcard
	prefix map[string]uint64 // for what is in wild: which lengths the prefixes have
	all    []int32           // for all names
	denies []shape           // of rules that deny what has to be proved, each with the first such rule
	shapes []shape           // of all rules for what has to be proved
	allows bool              // there is a rule that allows
}

// nameRule is one rule.
type nameRule struct {
	shape
	allow    bool
	resolver bool // it names one name, which is that of a resolver
}

// shape is what of a rule is not its name.
type shape struct {
	index int // in Config.Rules
	proto uint8
	named spec.Named
}

// wildKey is how wildcards are found.
type wildKey struct{ suffix, prefix string }

// wildcard is a name with a "*" within a label, and the rule that has it.
type wildcard struct {
	name  string
	below bool // it is about names below
	rule  int32
}

// newNameRules compiles those of rules that are by name.
func newNameRules(rules []spec.Rule, groups map[string][]string) *nameRules {
	resolvers, verifies := newDoH(), verifiesQUIC(rules)
	n := &nameRules{exact: map[string][]int32{}, below: map[string][]int32{}, wild: map[wildKey][]wildcard{}, prefix: map[string]uint64{}}
	for i := range rules {
		r := &rules[i]
		if !r.IsByName() {
			continue
		}
		group, isGroup := strings.CutPrefix(r.Named.Name, "@")
		names := []string{r.Named.Name}
		if isGroup {
			names = groups[group]
		}
		named := r.Named
		named.QUIC = named.QUIC || !r.Allow && verifies
		n.add(nameRule{
			shape: shape{index: i, proto: r.Proto, named: named},
			allow: r.Allow, resolver: resolvers.hasName(r.Named.Name),
		}, names)
	}
	if len(n.list) == 0 {
		return nil
	}
	return n
}

// verifiesQUIC reports whether a rule allows a name by QUIC. Then those that deny names look at QUIC, too, in place of closing it.
func verifiesQUIC(rules []spec.Rule) bool {
	return slices.ContainsFunc(rules, func(r spec.Rule) bool { return r.Allow && r.Named.QUIC })
}

func (n *nameRules) add(r nameRule, names []string) {
	at := int32(len(n.list))
	n.list = append(n.list, r)
	n.allows = n.allows || r.allow
	n.shapes = r.shape.addTo(n.shapes)
	if !r.allow {
		n.denies = r.shape.addTo(n.denies)
	}
	for _, name := range names {
		n.addName(name, at)
	}
}

// addTo adds s to a list, unless that has its like.
func (s shape) addTo(list []shape) []shape {
	same := func(o shape) bool {
		a, b := &o.named, &s.named
		return o.proto == s.proto && a.Verify == b.Verify && a.QUIC == b.QUIC && slices.Equal(a.Ports, b.Ports)
	}
	if s.named.Verify == spec.VerifyDNS || slices.ContainsFunc(list, same) {
		return list
	}
	return append(list, s)
}

func (n *nameRules) addName(name string, at int32) {
	add := func(m map[string][]int32, key string) {
		if l := m[key]; len(l) == 0 || l[len(l)-1] != at {
			m[key] = append(l, at)
		}
	}
	base, onlyBelow := strings.CutPrefix(name, "*.")
	base, both := strings.CutPrefix(base, ".")
	switch {
	case name == "*":
		n.all = append(n.all, at)
	case strings.Contains(base, "*"):
		n.addWildcard(base, onlyBelow, both, at)
	default:
		if !onlyBelow {
			add(n.exact, base)
		}
		if onlyBelow || both {
			add(n.below, base)
		}
	}
}

func (n *nameRules) addWildcard(base string, onlyBelow, both bool, at int32) {
	star := strings.LastIndexByte(base, '*')
	end := star + strings.IndexByte(base[star:], '.') // the last label has no "*"
	label := base[strings.LastIndexByte(base[:end], '.')+1 : end]
	key := wildKey{suffix: base[end+1:], prefix: label[:strings.IndexByte(label, '*')]}
	if !onlyBelow {
		n.wild[key] = append(n.wild[key], wildcard{name: base, rule: at})
	}
	if onlyBelow || both {
		n.wild[key] = append(n.wild[key], wildcard{name: base, below: true, rule: at})
	}
	n.prefix[key.suffix] |= 1 << len(key.prefix)
}

// first returns the first rule before limit that names a name and that q takes, limit if there is none. All are numbers in n.list.
func (n *nameRules) first(name string, limit int32, q *question) int32 {
	limit = n.firstOf(n.all, limit, q)
	limit = n.firstOf(n.exact[name], limit, q)
	for at := strings.IndexByte(name, '.'); at >= 0; {
		suffix := name[at+1:]
		limit = n.firstOf(n.below[suffix], limit, q)
		if lengths := n.prefix[suffix]; lengths != 0 {
			limit = n.firstWild(name, at, lengths, limit, q)
		}
		next := strings.IndexByte(suffix, '.')
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return limit
}

func (n *nameRules) firstOf(list []int32, limit int32, q *question) int32 {
	for _, at := range list {
		if at >= limit {
			break
		}
		if q.takes(&n.list[at]) {
			return at
		}
	}
	return limit
}

// firstWild is first for names with a "*" whose label ends at end.
func (n *nameRules) firstWild(name string, end int, lengths uint64, limit int32, q *question) int32 {
	suffix := name[end+1:]
	label := name[strings.LastIndexByte(name[:end], '.')+1 : end]
	for ; lengths != 0; lengths &= lengths - 1 {
		length := bits.TrailingZeros64(lengths)
		if length > len(label) {
			break
		}
		for _, w := range n.wild[wildKey{suffix, label[:length]}] {
			if w.rule >= limit {
				break
			}
			if matchLabels(w.name, name, w.below) && q.takes(&n.list[w.rule]) {
				limit = w.rule
			}
		}
	}
	return limit
}

// matchLabels reports whether a name is that of a pattern with a "*" within labels, or with below one below that.
func matchLabels(pattern, name string, below bool) bool {
	for {
		p, n := strings.LastIndexByte(pattern, '.'), strings.LastIndexByte(name, '.')
		if !matchLabel(pattern[p+1:], name[n+1:]) {
			return false
		}
		switch {
		case p < 0:
			return (n >= 0) == below
		case n < 0:
			return false
		}
		pattern, name = pattern[:p], name[:n]
	}
}

// matchLabel reports whether a label is that of a pattern. It takes no more than as many steps as both have characters, multiplied.
func matchLabel(pattern, label string) bool {
	p, l, star, mark := 0, 0, -1, 0
	for l < len(label) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, l
			p++
		case p < len(pattern) && pattern[p] == label[l]:
			p++
			l++
		case star >= 0:
			mark++
			p, l = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// speaks reports whether s is about a protocol and port.
func (s *shape) speaks(proto uint8, port uint16) bool {
	if proto != unix.IPPROTO_TCP && proto != unix.IPPROTO_UDP || s.proto != 0 && s.proto != proto {
		return false
	}
	return s.named.Covers(port)
}

// proof is what a rule needs for a connection that it speaks of; 0 is what the name service has answered.
func (s *shape) proof(proto uint8, port uint16) Proof {
	v := s.named.VerifyAt(port)
	switch {
	case v == spec.VerifyDNS:
		return 0
	case proto == unix.IPPROTO_TCP && v == spec.VerifyTLS:
		return ProofTLS
	case proto == unix.IPPROTO_TCP:
		return ProofHTTP
	case v == spec.VerifyTLS && s.named.QUIC:
		return ProofQUIC
	}
	return never
}

// proofs are all that rules need at a port.
func (n *nameRules) proofs(proto uint8, port uint16) (all Proof) {
	for i := range n.shapes {
		if s := &n.shapes[i]; s.speaks(proto, port) {
			all |= s.proof(proto, port)
		}
	}
	return all &^ never
}

// firstDenied returns the first rule before the index limit in Config.Rules that denies what has to be proved at a port, limit if there is
// none, and whether that cannot be proved.
func (n *nameRules) firstDenied(proto uint8, port uint16, limit int) (index int, closes bool) {
	for i := range n.denies {
		s := &n.denies[i]
		if s.index >= limit || !s.speaks(proto, port) {
			continue
		}
		if p := s.proof(proto, port); p != 0 {
			return s.index, p == never // they are in order
		}
	}
	return limit, false
}
