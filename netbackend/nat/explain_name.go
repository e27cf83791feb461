package nat

import (
	"net/netip"
	"slices"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// MaxExplained is how many addresses of a name are explained.
const MaxExplained = 64

// NameExplained is what becomes of a name: may the guest ask for it, and what becomes of its addresses.
type NameExplained struct {
	MayAsk    bool               // the guest's name server answers
	Why       string             // it does, or does not: a sentence without its full stop
	By        string             // the rule that decides that, as an option; "" for none
	Addresses []AddressExplained // that the guest was answered, and that are still good; in order
	More      int                // how many there are beside those
}

// AddressExplained is what becomes of a flow to an address of a name.
type AddressExplained struct {
	Addr    netip.Addr
	Allowed bool   // once the flow has told the name, if it must
	Why     string // a sentence without its full stop
	By      string // what decides, as an option; "" for nothing in particular
}

// explainName is Explain for a name.
func (p *Port) explainName(to Target) Explanation {
	d := policy.Destination{Endpoint: ipaddr.Endpoint{Port: to.Port}, Proto: to.Proto}
	e := p.policy.ExplainName(d, to.Name)
	addrs, own := p.guest.names.Addresses(p.shard.LastTurn, to.Name)
	n := p.explainQuestion(&e.Question, own)
	if !own {
		addrs = nil
		for _, a := range p.policy.Addresses(to.Name) {
			addrs = append(addrs, a.Netip())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	x := Explanation{Name: n, By: p.ruleText(e.Rule)}
	x.Allowed, x.Why = e.Verdict == policy.Allowed, whyNamed(&e)
	if e.Way != nil {
		x.Way = *e.Way
	}
	n.More = max(0, len(addrs)-MaxExplained)
	for i, a := range addrs[:len(addrs)-n.More] {
		found, by := p.explainAddress(&to, a)
		n.Addresses = append(n.Addresses, found.AddressExplained)
		if i == 0 || found.Allowed && !x.Allowed {
			x.Allowed, x.Why, x.By, x.Way, e.Proof = found.Allowed, found.Why, found.By, found.way, by
		}
	}
	switch {
	case !n.MayAsk:
		x.Allowed, x.Why, x.By, x.Way, e.Proof = false, n.Why, n.By, spec.Way{}, 0
	case len(addrs) == 0:
		x.Why += "; the guest was answered no address of it yet, or none that is still good"
	}
	x.Proof = e.Proof.Texts()
	return x
}

// explainedAddress is an AddressExplained with what is told of one address alone.
type explainedAddress struct {
	AddressExplained
	way spec.Way
}

// explainAddress says what becomes of a flow to an address that tells the target's name. by is how it must tell it.
func (p *Port) explainAddress(to *Target, a netip.Addr) (x explainedAddress, by policy.Proof) {
	x.Addr = a
	key := flowtable.Key{Proto: to.Proto, Remote: ipaddr.From(a), RemotePort: to.Port}
	if why := p.answersItself(&key); why != "" {
		x.Allowed, x.Why = true, why
		return x, 0
	}
	named := policy.DestinationOf(&key)
	e := p.policy.Explain(named)
	e.Decision, by = p.policy.JudgeTold(named, to.Name)
	x.Allowed, x.By = e.Verdict == policy.Allowed, p.decidedBy(&key, &e)
	x.Why = why(&e, x.By != "")
	if e.Way != nil {
		x.way = *e.Way
	}
	return x, by
}

// explainQuestion says whether the guest may ask for a name. own is that the configuration answers it.
func (p *Port) explainQuestion(q *policy.Question, own bool) *NameExplained {
	n := &NameExplained{MayAsk: own || q.Verdict == policy.Allowed}
	if own {
		n.Why = "the configuration answers the name, whatever rules say"
		return n
	}
	n.By = p.ruleText(q.Rule)
	switch {
	case q.Verdict == policy.IsDenied:
		n.Why = "the name server refuses to answer, for the first rule that has the name denies it"
	case q.Verdict == policy.IsResolver:
		n.Why = "the name server refuses to answer, for it is the name of another name server, which is closed while there are rules by name"
	case q.Verdict != policy.Allowed:
		n.Why = "the name server refuses to answer, for no rule allows the name"
	case n.By != "":
		n.Why = "the name server answers, for a rule allows the name"
	default:
		n.Why = "the name server answers, for no rule is about the name"
	}
	return n
}

// ruleText returns a rule of the policy as an option, "" for none.
func (p *Port) ruleText(rule int) string {
	if rule < 0 || rule >= len(p.adopted.texts) {
		return ""
	}
	return p.adopted.texts[rule]
}

// whyNamed says in words what becomes of a connection to a name of which no address is known.
func whyNamed(e *policy.NameExplanation) string {
	switch e.Verdict {
	case policy.IsUnlisted:
		return "no rule opens the port for the name, and what no rule opens is closed"
	case policy.IsDenied:
		return "the first rule by name that matches closes it"
	case policy.IsResolver:
		return "it is another name server than vring's, which is closed while there are rules by name"
	case policy.NoWay:
		return "how it is to leave the host, " + e.Way.String() + ", is a way for TCP only"
	}
	if e.Rule >= 0 {
		return "the first rule by name that matches opens it, unless a rule by address comes before"
	}
	return "no rule by name matches: its addresses decide"
}
