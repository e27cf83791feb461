package policy

import (
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
)

// Question is what rules say of a name that the guest asks the name server about.
type Question struct {
	Verdict Verdict // Allowed, IsDenied, IsUnlisted or IsResolver
	Rule    int     // which of Config.Rules decides, -1 for none
	Listed  bool    // the names that CNAME records lead to must be allowed by rules, too
	Private bool    // the name may have addresses in private networks
}

// HasNameRules reports whether there are rules by name.
func (p *Policy) HasNameRules() bool { return p.rules.names != nil }

// WantsNames reports whether it matters which names the name server answers.
func (p *Policy) WantsNames() bool { return p.rules.WantsNames() }

// Restricts reports whether all is closed that is not opened.
func (p *Policy) Restricts() bool { return p.rules.restrict }

// JudgeQuestion says whether the guest may ask about a name, as spec.CanonicalName returns it. The first rule that names it decides; one
// that denies it on some ports only is no reason not to tell its addresses.
func (p *Policy) JudgeQuestion(name string) Question {
	n := p.rules.names
	if n == nil {
		return Question{Rule: -1}
	}
	none := int32(len(n.list))
	at := none
	if name != "" {
		at = n.first(name, none, &question{by: byQuestion})
	}
	if p.rules.doh.hasName(name) && (at == none || !n.list[at].resolver) {
		return Question{Verdict: IsResolver, Rule: -1}
	}
	if at == none {
		if p.rules.restrict {
			return Question{Verdict: IsUnlisted, Rule: -1}
		}
		return Question{Rule: -1}
	}
	r := &n.list[at]
	if !r.allow {
		return Question{Verdict: IsDenied, Rule: r.index}
	}
	private := n.first(name, none, &question{by: byQuestion, class: classPrivate}) < none
	return Question{Rule: r.index, Listed: r.named.Listed, Private: private}
}

// takesQuestion is takes for a name that is asked about. With the class of private addresses, only rules that allow these count.
func (q *question) takesQuestion(r *nameRule) bool {
	if q.class == classPrivate {
		return r.allow && r.named.Private
	}
	return r.allow || r.proto == 0 && len(r.named.Ports) == 0
}

// MayAnswer reports whether the guest may be told an address of a name that it was allowed to ask about: not if the name could open nothing
// there, unless that is open to the guest by its address.
func (p *Policy) MayAnswer(addr *ipaddr.Addr, q *Question) bool {
	a := addr.Netip()
	c := p.classify(addr)
	switch {
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return false
	case c == classInternet || c == classPrivate && q.Private:
		return true
	case c == classPrivate:
		return p.rules.filters.opens(addr, false, !p.rules.restrict)
	case c == classLinkLocal:
		return p.rules.filters.opens(addr, true, false)
	}
	return false
}

// NamesAt puts the names that the guest was told for an address into names, and returns how many there are.
func (p *Policy) NamesAt(addr *ipaddr.Addr, names *witness.Names) int {
	return p.table.Names(p.time(), addr, names)
}
