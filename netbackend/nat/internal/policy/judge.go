package policy

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Decision is what the policy says of a destination.
type Decision struct {
	To      ipaddr.Endpoint // where the destination really is
	Verdict Verdict
	Proof   Proof     // if the verdict is Held: how the connection can tell its name; any of the set will do
	Rule    int       // which of Config.Rules decides, -1 for none
	Name    string    // the name by which a rule opens or closes it, "" for none
	Given   bool      // AllowHost opens it, or a redirect leads it elsewhere: no rule is asked
	Way     *spec.Way // how what is allowed leaves the host, nil as the kernel chooses; it is not to be changed
}

// question is what rules by name are asked.
type question struct {
	to    Destination
	class class
	by    by
	proof Proof  // with byProof: how the name was told
	name  string // with byProof: which it is
	now   int64
	table *witness.Table
	rules *Rules
}

// by is what tells the name of a destination.
type by uint8

const (
	byWitness  by = iota // the name service: rules for what must be proved count as well
	byAnswer             // the name service, and rules for what must be proved do not count, but for those that deny if nothing was proved
	byProof              // the connection: only rules for what must be proved count
	byQuestion           // the guest asks for its addresses
	byOpening            // it was opened by that name: all count, whatever they want to know
)

// takes reports whether a rule that names the name speaks of what is asked, and could decide.
func (q *question) takes(r *nameRule) bool {
	if q.by == byQuestion {
		return q.takesQuestion(r)
	}
	if !r.speaks(q.to.Proto, q.to.Port) {
		return false
	}
	p := r.proof(q.to.Proto, q.to.Port)
	if r.allow && (p == never || q.class == classLinkLocal || q.class == classPrivate && !r.named.Private) {
		return false
	}
	if r.allow && q.rules.isResolver(&q.to) && !q.opensResolver(r) {
		return false
	}
	switch q.by {
	case byAnswer:
		return p == 0 || !r.allow && q.proof == 0
	case byProof:
		return p&q.proof != 0 && (!r.allow || q.table.Holds(q.now, q.name, &q.to.Addr))
	}
	return true
}

// Judge says where a destination that the guest names really is, and whether the guest may go there. What is judged is the address
// after every mapping. If a rule by name must know more than that the name service has answered, the verdict is Held.
func (p *Policy) Judge(named Destination) Decision {
	return p.decide(named, &question{by: byWitness})
}

// JudgeNamed judges what was Held, now that the connection has told a name in the way of proof, or none: then name is "" and proof is 0.
// The name is one as the connection has it, which may be no name at all.
func (p *Policy) JudgeNamed(named Destination, name string, proof Proof) Decision {
	if name = spec.CanonicalName(name); name == "" {
		proof = 0
	}
	return p.decide(named, &question{by: byProof, name: name, proof: proof})
}

// JudgeOpened judges a flow again that was opened by a name, as a Decision has it. "" is none: what must be proved is closed then.
func (p *Policy) JudgeOpened(named Destination, name string) Decision {
	if name == "" {
		return p.JudgeNamed(named, "", 0)
	}
	return p.decide(named, &question{by: byOpening, name: name})
}

func (p *Policy) decide(named Destination, q *question) Decision {
	if to, ok := p.rules.redirect(named); ok {
		return Decision{To: to, Rule: -1, Given: true}
	}
	to := named.Endpoint
	if p.nets.IsGateway(&named.Addr) && (!p.nets.Shared || p.rules.open[named]) { // one of a shared network is a router of the host's
		to.Addr = p.nets.Of(&named.Addr).Loopback
	}
	if p.rules.open[named] {
		return Decision{To: to, Rule: -1, Given: true}
	}
	d := Decision{To: to, Rule: -1}
	c := p.classify(&to.Addr)
	switch c {
	case classGuest:
		d.Verdict = IsNobody
		return d
	case classHost, classLoopback:
		d.Verdict = IsClosed
		return d
	}
	f := p.rules.filters.match(named.Proto, &to, c == classLinkLocal)
	p.byAddress(&d, f, c, named.Proto)
	if n := p.rules.names; n != nil {
		q.to, q.class, q.now, q.table, q.rules = Destination{Endpoint: to, Proto: named.Proto}, c, p.time(), p.table, p.rules
		p.byName(&d, n, q)
	}
	p.choose(&d, named.Proto)
	if p.rules.learn && q.by == byWitness && d.Verdict == Allowed {
		p.observe(&d, named.Proto)
	}
	return d
}

// observe holds what is allowed until it has told its server, in the way that a rule by name would want.
func (p *Policy) observe(d *Decision, proto uint8) {
	n := spec.Named{}
	switch v := n.VerifyAt(d.To.Port); {
	case proto != unix.IPPROTO_TCP:
	case v == spec.VerifyTLS:
		d.Verdict, d.Proof = Held, ProofTLS
	case v == spec.VerifyHTTP:
		d.Verdict, d.Proof = Held, ProofHTTP
	}
}

// byAddress says what a rule by address makes of a destination, nil for none.
func (p *Policy) byAddress(d *Decision, f *filter, c class, proto uint8) {
	resolver := p.rules.isResolver(&Destination{Endpoint: d.To, Proto: proto})
	switch {
	case f != nil && f.allow && resolver && !f.opensResolver(d.To.Port):
		d.Verdict = IsResolver
	case f != nil:
		d.Rule = int(f.index)
		if !f.allow {
			d.Verdict = IsDenied
		}
	case c == classLinkLocal || p.rules.restrict:
		d.Verdict = IsUnlisted
	case resolver:
		d.Verdict = IsResolver
	}
}

// byName changes a decision that was made by address if a rule by name comes before.
func (p *Policy) byName(d *Decision, n *nameRules, q *question) {
	until := p.rules.count
	if d.Rule >= 0 {
		until = d.Rule
	}
	at, name := n.find(q)
	if at < int32(len(n.list)) && n.list[at].index < until {
		until = n.list[at].index
		n.list[at].decide(d, q, name)
	}
	if q.by != byWitness || d.Verdict != Allowed && d.Verdict != Held {
		return // nothing that a name could still change
	}
	if index, closes := n.firstDenied(q.to.Proto, q.to.Port, until); index < until {
		d.Verdict, d.Rule, d.Name = Held, index, ""
		if closes {
			d.Verdict = IsDenied
		}
	}
	if d.Verdict == Held {
		d.Proof = n.proofs(q.to.Proto, q.to.Port)
	}
}

// find returns the first rule that q's names lead to, by its number in n.list, len(n.list) for none; and the name that led there.
func (n *nameRules) find(q *question) (at int32, name string) {
	at = int32(len(n.list))
	if q.by == byProof && q.name != "" || q.by == byOpening {
		if found := n.first(q.name, at, q); found < at {
			at, name = found, q.name
		}
	}
	if q.by == byOpening {
		return at, name
	}
	if q.by == byProof {
		told := *q
		told.by = byAnswer
		q = &told
	}
	var names witness.Names
	for _, candidate := range names[:q.table.Names(q.now, &q.to.Addr, &names)] {
		if found := n.first(candidate, at, q); found < at {
			at, name = found, candidate
		}
	}
	return at, name
}

// decide says what r makes of what is asked.
func (r *nameRule) decide(d *Decision, q *question, name string) {
	d.Rule, d.Name, d.Verdict = r.index, name, Allowed
	if !r.allow {
		d.Verdict = IsDenied
	}
	if p := r.proof(q.to.Proto, q.to.Port); q.by == byWitness && p != 0 && p != never {
		d.Verdict, d.Name = Held, ""
	}
}
