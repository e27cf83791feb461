package policy

import (
	"net/netip"
	"slices"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// class is whose an address is.
type class uint8

const (
	classInternet  class = iota
	classPrivate         // of private networks (RFC 1918), and of a provider's (RFC 6598)
	classLinkLocal       // of the host's own link (RFC 3927), and wherever else clouds keep their metadata
	classHost            // of the host, but not of its loopback
	classLoopback
	classGuest // in the guest's own network, where nobody else is
)

// Verdict is what the policy says of a destination.
type Verdict uint8

// What the policy can say.
const (
	Allowed    Verdict = iota
	IsClosed           // it is the host's, and was not opened
	IsUnlisted         // it takes a rule that opens it, and there is none
	IsDenied           // a rule closes it
	IsNobody           // nobody has that address
	NoWay              // how it is to leave the host is a way for TCP only
	IsResolver         // it is another name server than the engine's, which rules by name close
	Held               // a rule by name must know more; only what Judge returns can be that, and callers that cannot wait take it as closed
)

// Destination is one as the guest names it. Port is 0 where the protocol has none.
type Destination struct {
	ipaddr.Endpoint
	Proto uint8 // such as unix.IPPROTO_TCP
}

// DestinationOf returns where a flow of the guest's goes.
func DestinationOf(k *flowtable.Key) Destination {
	return Destination{Endpoint: ipaddr.Endpoint{Addr: k.Remote, Port: k.RemotePort}, Proto: k.Proto}
}

// Config is what a user says of the policy. All of it was checked: see spec.Rule.Check.
type Config struct {
	AllowHost []spec.HostService  // what of the host is opened to the guest
	Rules     []spec.Rule         // what else is opened or closed; the first that matches decides
	Restrict  bool                // all is closed that is not opened
	Redirects []spec.Redirect     // where some destinations lead, which is open
	Groups    map[string][]string // the names of groups that rules by name have
	Way       spec.Way            // how all leaves the host of which no rule says otherwise
	Learn     bool                // connections are Held until they have told their server, where rules by name would want that; none is closed for it
}

// Rules are a Config as it is asked. They do not change, and any thread may read them.
type Rules struct {
	open      map[Destination]bool
	filters   filters
	names     *nameRules // nil if no rule is by name
	doh       doh        // if there are some
	count     int        // of rules
	ways      ways
	restrict  bool
	learn     bool
	redirects map[Destination]ipaddr.Endpoint // port 0 stands for all ports, each of which leads to the same number
	aliases   []netip.Addr                    // that redirects name in the guest's own networks
}

// Compile returns the rules for a guest in nets. It keeps nothing of c.
func Compile(c *Config, nets *guestnet.Networks) *Rules {
	r := &Rules{
		open: map[Destination]bool{}, filters: newFilters(c.Rules), names: newNameRules(c.Rules, c.Groups), count: len(c.Rules),
		ways: newWays(c.Way, c.Rules), restrict: c.Restrict, learn: c.Learn, redirects: map[Destination]ipaddr.Endpoint{},
	}
	if r.names != nil {
		r.doh = newDoH()
	}
	for _, s := range c.AllowHost {
		for _, a := range nets.Named(s.Addr) {
			r.open[Destination{Endpoint: ipaddr.Endpoint{Addr: a, Port: s.Port}, Proto: s.Proto}] = true
		}
	}
	for _, d := range c.Redirects {
		for _, proto := range d.Protocols() {
			r.redirects[Destination{Endpoint: ipaddr.EndpointFrom(d.From), Proto: proto}] = ipaddr.EndpointFrom(d.To)
		}
	}
	for _, a := range spec.RedirectedAddresses(c.Redirects) {
		if own := ipaddr.From(a); nets.Contains(&own) && !nets.IsOurs(&own) {
			r.aliases = append(r.aliases, a)
		}
	}
	return r
}

// Aliases are the addresses in the guest's own networks that redirects name: nobody else has them there. They are not to be changed.
func (r *Rules) Aliases() []netip.Addr { return r.aliases }

// redirect returns where a redirect leads a destination.
func (r *Rules) redirect(named Destination) (to ipaddr.Endpoint, ok bool) {
	if len(r.redirects) == 0 {
		return to, false
	}
	if to, ok = r.redirects[named]; ok {
		return to, true
	}
	port := named.Port
	named.Port = 0
	to, ok = r.redirects[named]
	to.Port = port
	return to, ok
}

// Len returns how many rules a destination is compared with at most.
func (r *Rules) Len() int { return len(r.filters) }

// Policy decides where a guest's packets may go. It belongs to one thread.
type Policy struct {
	nets   *guestnet.Networks
	routes *route.Table
	rules  *Rules
	table  *witness.Table // nil for a guest that asks for no names
	clock  *int64         // what the time of table is
}

// New returns the policy of rules for a guest in nets, on a host with routes. All are the caller's, and must last as long as the
// policy.
func New(rules *Rules, nets *guestnet.Networks, routes *route.Table) Policy {
	return Policy{nets: nets, routes: routes, rules: rules}
}

// UseWitness lets rules by name be asked: table has what the guest was answered, and clock the time, which the policy's thread sets.
func (p *Policy) UseWitness(table *witness.Table, clock *int64) { p.table, p.clock = table, clock }

// time is that of the table.
func (p *Policy) time() int64 {
	if p.clock == nil {
		return 0
	}
	return *p.clock
}

// Opened remembers by which name a flow was opened, "" for none, by the index of the flow. It is called for each flow that the policy has
// allowed, and tells JudgeOpened later; a name that was proved is better than none, whatever has allowed the flow.
func (p *Policy) Opened(flow uint32, name string) { p.table.Opened(flow, name) }

// OpenedBy returns the name by which a flow was opened, "" for none.
func (p *Policy) OpenedBy(flow uint32) string { return p.table.OpenedBy(flow) }

// Replace puts other rules, for a guest in the same network, in the place of those that there are.
func (p *Policy) Replace(rules *Rules) { p.rules = rules }

// IsAlias reports whether a redirect names an address of the guest's own networks.
func (p *Policy) IsAlias(a *ipaddr.Addr) bool {
	return len(p.rules.aliases) > 0 && slices.Contains(p.rules.aliases, a.Netip())
}

// Opens reports whether Config.AllowHost opens a destination.
func (p *Policy) Opens(named Destination) bool { return p.rules.open[named] }

// Leads reports whether Config.AllowHost opens a destination, or a redirect leads it elsewhere.
func (p *Policy) Leads(named Destination) bool {
	_, elsewhere := p.rules.redirect(named)
	return elsewhere || p.Opens(named)
}

// Permits reports whether rules leave a destination to the guest that is no host's in particular, or good for finding services only:
// a group, or a link-local address. Only the rules are asked, not whose the address is.
func (p *Policy) Permits(to Destination) bool {
	if f := p.rules.filters.match(to.Proto, &to.Endpoint, to.Addr.IsLinkLocal()); f != nil {
		return f.allow
	}
	return !p.rules.restrict
}

// classify says whose an address is.
func (p *Policy) classify(addr *ipaddr.Addr) class {
	a := addr.Netip()
	switch {
	case a.IsLoopback() || a.IsUnspecified():
		return classLoopback
	case p.nets.Contains(addr):
		return classGuest
	case p.routes.IsLocal(addr):
		return classHost
	case isCloseBy(netip.PrefixFrom(a, a.BitLen())):
		return classLinkLocal
	case a.IsPrivate() || isShared(a):
		return classPrivate
	}
	return p.classifyInside(a)
}

// isShared reports whether a is in 100.64.0.0/10, which a provider's customers share (RFC 6598).
func isShared(a netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a)
}
