package policy

import (
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Explanation is a verdict with what it rests on.
type Explanation struct {
	Decision
	Owner  string // whose the address is
	Opened bool   // by Config.AllowHost
	Led    bool   // by one of Config.Redirects
}

// Explain judges a destination as Judge does, and says why.
func (p *Policy) Explain(named Destination) Explanation {
	d := p.Judge(named)
	if p.rules.learn && d.Verdict == Held {
		d.Verdict, d.Proof = Allowed, 0
	}
	_, led := p.rules.redirect(named)
	return Explanation{Decision: d, Owner: p.classify(&d.To.Addr).String(), Opened: !led && p.Opens(named), Led: led}
}

// NameExplanation is what the policy says of a name, and of a port there, before an address of it is known.
type NameExplanation struct {
	Question Question // may the guest ask the name server for it
	Verdict  Verdict  // Allowed, IsUnlisted, IsDenied, IsResolver or NoWay: of a connection that shows that it is to the name, if no rule by address comes before
	Rule     int      // which of Config.Rules decides that, -1 for none
	Proof    Proof    // what the rule needs for it; any of the set will do
	Way      *spec.Way
}

// ExplainName says what rules make of a name, as spec.CanonicalName returns it, and of a port. The address of to does not count.
func (p *Policy) ExplainName(to Destination, name string) NameExplanation {
	x := NameExplanation{Question: p.JudgeQuestion(name), Rule: -1}
	if p.rules.restrict {
		x.Verdict = IsUnlisted
	}
	if p.rules.isResolver(&to) {
		x.Verdict = IsResolver
	}
	d := Decision{Verdict: x.Verdict, Rule: -1}
	if n := p.rules.names; n != nil {
		q := question{by: byOpening, to: to, class: classInternet, rules: p.rules, name: name}
		if at := n.first(name, int32(len(n.list)), &q); at < int32(len(n.list)) {
			r := &n.list[at]
			r.decide(&d, &q, name)
			x.Proof = r.proof(to.Proto, to.Port) &^ never
		}
	}
	p.choose(&d, to.Proto)
	x.Verdict, x.Rule, x.Way = d.Verdict, d.Rule, d.Way
	return x
}

// JudgeTold judges a destination for a connection that tells a name by whatever way rules want to know it. by is that way, 0 if nothing needs to be told.
func (p *Policy) JudgeTold(named Destination, name string) (d Decision, by Proof) {
	d = p.Judge(named)
	if d.Verdict != Held {
		return d, 0
	}
	first := d
	for _, by := range []Proof{ProofTLS, ProofHTTP, ProofQUIC} {
		if first.Proof&by == 0 {
			continue
		}
		if d = p.JudgeNamed(named, name, by); d.Verdict == Allowed {
			return d, by
		}
	}
	return d, first.Proof
}

// Learns reports whether names are learned: nothing is closed for what it tells, or does not tell, of its server.
func (p *Policy) Learns() bool { return p.rules.learn }

// IsPrivate reports whether an address is in a private network, in whatever form it is written: a rule by name opens it only if it says so.
func IsPrivate(addr *ipaddr.Addr) bool {
	a := addr.Netip()
	inside := embedded(netip.PrefixFrom(a, a.BitLen()))
	for _, e := range append(inside.all(), netip.PrefixFrom(a, a.BitLen())) {
		if e.Addr().IsPrivate() || isShared(e.Addr()) {
			return true
		}
	}
	return false
}

// Addresses returns the addresses of a name that the guest was answered and that are still good, in no particular order.
func (p *Policy) Addresses(name string) []ipaddr.Addr { return p.table.Addresses(p.time(), name) }

// Texts returns what a set of proofs is called, as in "tls".
func (p Proof) Texts() (all []string) {
	for _, of := range []struct {
		proof Proof
		text  string
	}{{ProofTLS, "tls"}, {ProofHTTP, "http"}, {ProofQUIC, "quic"}} {
		if p&of.proof != 0 {
			all = append(all, of.text)
		}
	}
	return all
}

// String returns whose an address is.
func (c class) String() string {
	switch c {
	case classPrivate:
		return "a private network"
	case classLinkLocal:
		return "the host's link, or a cloud's metadata"
	case classHost:
		return "the host"
	case classLoopback:
		return "the host's loopback"
	case classGuest:
		return "the guest's own network"
	}
	return "the internet"
}
