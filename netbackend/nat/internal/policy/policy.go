package policy

import (
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
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
	AllowHost []spec.HostService // what of the host is opened to the guest
	Rules     []spec.Rule        // what else is opened or closed; the first that matches decides
	Restrict  bool               // all is closed that is not opened
}

// Rules are a Config as it is asked. They do not change, and any thread may read them.
type Rules struct {
	open     map[Destination]bool
	filters  filters
	restrict bool
}

// Compile returns the rules for a guest in nets. It keeps nothing of c.
func Compile(c *Config, nets *guestnet.Networks) *Rules {
	r := &Rules{open: map[Destination]bool{}, filters: newFilters(c.Rules), restrict: c.Restrict}
	for _, s := range c.AllowHost {
		for _, a := range nets.Named(s.Addr) {
			r.open[Destination{Endpoint: ipaddr.Endpoint{Addr: a, Port: s.Port}, Proto: s.Proto}] = true
		}
	}
	return r
}

// Len returns how many rules a destination is compared with at most.
func (r *Rules) Len() int { return len(r.filters) }

// Policy decides where a guest's packets may go. It belongs to one thread.
type Policy struct {
	nets   *guestnet.Networks
	routes *route.Table
	rules  *Rules
}

// New returns the policy of rules for a guest in nets, on a host with routes. All are the caller's, and must last as long as the
// policy.
func New(rules *Rules, nets *guestnet.Networks, routes *route.Table) Policy {
	return Policy{nets: nets, routes: routes, rules: rules}
}

// Replace puts other rules, for a guest in the same network, in the place of those that there are.
func (p *Policy) Replace(rules *Rules) { p.rules = rules }

// Judge says where a destination that the guest names really is, and whether the guest may go there. What is judged is the address
// after every mapping.
func (p *Policy) Judge(named Destination) (ipaddr.Endpoint, Verdict) {
	to := named.Endpoint
	if p.nets.IsGateway(&named.Addr) {
		to.Addr = p.nets.Of(&named.Addr).Loopback
	}
	if p.rules.open[named] {
		return to, Allowed
	}
	return to, p.judge(named.Proto, &to)
}

// Opens reports whether Config.AllowHost opens a destination.
func (p *Policy) Opens(named Destination) bool { return p.rules.open[named] }

// Permits reports whether rules leave a destination to the guest that is no host's in particular, or good for finding services only:
// a group, or a link-local address. Only the rules are asked, not whose the address is.
func (p *Policy) Permits(to Destination) bool {
	if f := p.rules.filters.match(to.Proto, &to.Endpoint, to.Addr.IsLinkLocal()); f != nil {
		return f.allow
	}
	return !p.rules.restrict
}

// judge says whether the guest may go to a destination that was not opened by Config.AllowHost.
func (p *Policy) judge(proto uint8, to *ipaddr.Endpoint) Verdict {
	c := p.classify(&to.Addr)
	switch c {
	case classGuest:
		return IsNobody
	case classHost, classLoopback:
		return IsClosed
	}
	linkLocal := c == classLinkLocal
	f := p.rules.filters.match(proto, to, linkLocal)
	switch {
	case f != nil && f.allow:
		return Allowed
	case f != nil:
		return IsDenied
	case linkLocal || p.rules.restrict:
		return IsUnlisted
	}
	return Allowed
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
