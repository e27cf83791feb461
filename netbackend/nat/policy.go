package nat

import (
	"fmt"
	"net/netip"

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

// verdict is what the policy says of a destination.
type verdict uint8

const (
	allowed    verdict = iota
	isClosed           // it is the host's, and was not opened
	isUnlisted         // it takes a rule that opens it, and there is none
	isDenied           // a rule closes it
	isNobody           // nobody has that address
)

// policy decides where a guest's packets may go. It belongs to the worker's thread.
type policy struct {
	nets     *networks
	open     map[service]bool
	filters  filters
	restrict bool
	routes   route.Table
	told     map[service]bool // denials that the user was told of
}

// service is a destination as the guest names it.
type service struct {
	ipaddr.Endpoint
	proto uint8
}

func serviceOf(key *flowKey) service {
	return service{Endpoint: ipaddr.Endpoint{Addr: key.remote, Port: key.remotePort}, proto: key.proto}
}

func newPolicy(cfg *Config) (policy, error) {
	nets := networksOf(cfg)
	p := policy{
		nets: &nets,
		open: map[service]bool{}, filters: newFilters(cfg.Rules), restrict: cfg.Restrict, told: map[service]bool{},
	}
	for _, s := range cfg.AllowHost {
		for _, a := range nets.named(s.Addr) {
			p.open[service{Endpoint: ipaddr.Endpoint{Addr: a, Port: s.Port}, proto: s.Proto}] = true
		}
	}
	return p, p.routes.Open()
}

// named returns the addresses by which the guest names a host service.
func (n *networks) named(addr netip.Addr) []ipaddr.Addr {
	switch {
	case !addr.IsValid():
		return []ipaddr.Addr{n.v4.gateway, n.v6.gateway, n.linkLocal}
	case addr == netip.IPv6Loopback():
		return []ipaddr.Addr{n.v6.gateway, n.linkLocal}
	case spec.IsRouterLoopback(addr):
		return []ipaddr.Addr{n.v4.gateway}
	}
	return []ipaddr.Addr{ipaddr.From(addr)}
}

func (p *policy) close() { p.routes.Close() }

// destination says where the remote end of a flow that the guest begins really is, and whether it may go there. What
// the policy judges is the address after every mapping. Its order is told in the package's documentation.
func (p *policy) destination(key *flowKey) (ipaddr.Endpoint, verdict) {
	named := serviceOf(key)
	to := named.Endpoint
	if p.nets.isGateway(&key.remote) {
		to.Addr = p.nets.of(&key.remote).loopback
	}
	if p.open[named] {
		return to, allowed
	}
	return to, p.judge(key.proto, &to)
}

// judge says whether the guest may go to a destination that was not opened by Config.AllowHost.
func (p *policy) judge(proto uint8, to *ipaddr.Endpoint) verdict {
	c := p.classify(&to.Addr)
	switch c {
	case classGuest:
		return isNobody
	case classHost, classLoopback:
		return isClosed
	}
	linkLocal := c == classLinkLocal
	f := p.filters.match(proto, to, linkLocal)
	switch {
	case f != nil && f.allow:
		return allowed
	case f != nil:
		return isDenied
	case linkLocal || p.restrict:
		return isUnlisted
	}
	return allowed
}

// classify says whose an address is.
func (p *policy) classify(addr *ipaddr.Addr) class {
	a := addr.Netip()
	switch {
	case a.IsLoopback() || a.IsUnspecified():
		return classLoopback
	case p.nets.contains(addr):
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

// isShared tells whether a is in 100.64.0.0/10, which a provider's customers share (RFC 6598).
func isShared(a netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a)
}

// deny counts a denial, and tells the user of the first one to a service, naming the flag that opens it. What a rule
// closes is closed as the user wished, and not told.
func (p *Port) deny(key *flowKey, v verdict) {
	p.counters.Denied++
	const most = 64 // distinct denials that are told
	s := serviceOf(key)
	if v != isClosed && v != isUnlisted || p.policy.told[s] || len(p.policy.told) >= most {
		return
	}
	p.policy.told[s] = true
	message := "the guest was denied a service of the host; to open it, start with --allow-host "
	if v == isUnlisted {
		message = "the guest was denied a destination; to open it, start with --allow "
	}
	p.warn(message+p.opener(key), "destination", fmt.Sprintf("%s %s", spec.ProtoName(key.proto), key.remoteAddrPort()))
}

// opener returns the value of the flag that opens the destination of key.
func (p *Port) opener(key *flowKey) string {
	name := spec.ProtoName(key.proto)
	switch {
	case key.proto == protoICMP:
		return fmt.Sprintf("%s:%s", name, key.remote.Netip())
	case p.nets.isGateway(&key.remote):
		return fmt.Sprintf("%s:%d", name, key.remotePort)
	}
	return fmt.Sprintf("%s:%s", name, key.remoteAddrPort())
}
