package policy

import "github.com/vringnet/vring/netbackend/nat/internal/ipaddr"

// Explanation is a verdict with what it rests on.
type Explanation struct {
	To      ipaddr.Endpoint // where the destination really is
	Verdict Verdict
	Owner   string // whose the address is
	Opened  bool   // by Config.AllowHost
	Rule    int    // which of Config.Rules decides, -1 for none
}

// Explain judges a destination as Judge does, and says why.
func (p *Policy) Explain(named Destination) Explanation {
	to, verdict := p.Judge(named)
	c := p.classify(&to.Addr)
	e := Explanation{To: to, Verdict: verdict, Owner: c.String(), Opened: p.Opens(named), Rule: -1}
	if !e.Opened && c.hasRules() {
		e.Rule = p.rules.filters.index(named.Proto, &to, c == classLinkLocal)
	}
	return e
}

// hasRules reports whether Config.Rules are asked about addresses of c.
func (c class) hasRules() bool { return c != classGuest && c != classHost && c != classLoopback }

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

// index returns which rule match returns, -1 for none.
func (l filters) index(proto uint8, to *ipaddr.Endpoint, linkLocal bool) int {
	f := l.match(proto, to, linkLocal)
	for i := range l {
		if &l[i] == f {
			return i
		}
	}
	return -1
}
