package policy

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Told is what a connection that was denied has told of its server.
type Told struct {
	Name   string // as it was told, which may be anything; "" for none
	By     Proof  // the way in which it was; 0 for none
	Looked bool   // its first bytes were looked at
}

// Opener returns the rule that allows what was denied, in front of all others: by the name that was told, or that the guest was answered last with
// the address, if there are rules by name; else by address. A rule by name allows it if the guest has asked for the name. !ok is that no rule can:
// the destination is the host's or nobody's, or how all leaves the host is a way for TCP only.
func (p *Policy) Opener(to Destination, told Told) (r spec.Rule, ok bool) {
	c := p.classify(&to.Addr)
	way := p.rules.ways.usual
	if c == classGuest || c == classHost || c == classLoopback || to.Proto != unix.IPPROTO_TCP && way != nil && way.IsForTCP() {
		return spec.Rule{}, false
	}
	if name := p.openingName(&to, c, told.Name); name != "" {
		return nameOpener(&to, c, name, told), true
	}
	a := to.Addr.Netip()
	return spec.Rule{Allow: true, Proto: to.Proto, Prefix: netip.PrefixFrom(a, a.BitLen()), First: to.Port, Last: to.Port}, true
}

// openingName returns the name by which a rule can open a destination, "" for none.
func (p *Policy) openingName(to *Destination, c class, told string) string {
	if p.rules.names == nil || c == classLinkLocal || to.Proto != unix.IPPROTO_TCP && to.Proto != unix.IPPROTO_UDP || p.rules.isResolver(to) {
		return ""
	}
	if name := spec.CanonicalName(told); name != "" {
		return name
	}
	var names witness.Names
	if p.table.Names(p.time(), &to.Addr, &names) == 0 {
		return ""
	}
	return names[0]
}

// nameOpener is the rule by a name, for what can be known of the connection.
func nameOpener(to *Destination, c class, name string, told Told) spec.Rule {
	n := spec.Named{Name: name, Ports: []spec.Ports{{First: to.Port, Last: to.Port}}, Private: c == classPrivate}
	usual := n.VerifyAt(to.Port)
	nameless := told.Looked && (told.By == 0 || spec.CanonicalName(told.Name) == "")
	switch {
	case to.Proto == unix.IPPROTO_UDP && usual == spec.VerifyTLS && !nameless:
		n.QUIC = true
	case to.Proto == unix.IPPROTO_UDP && usual != spec.VerifyDNS, nameless && usual != spec.VerifyDNS:
		n.Verify = spec.VerifyDNS
	case nameless: // nothing needs to be told there by itself
	case told.By == ProofTLS && usual != spec.VerifyTLS:
		n.Verify = spec.VerifyTLS
	case told.By == ProofHTTP && usual != spec.VerifyHTTP:
		n.Verify = spec.VerifyHTTP
	case told.By == ProofQUIC && usual != spec.VerifyTLS:
		n.Verify, n.QUIC = spec.VerifyTLS, true
	}
	return spec.Rule{Allow: true, Proto: to.Proto, Named: n}
}

// NameOpener returns the rule that lets the guest ask for a name, as spec.CanonicalName returns it: on the ports of web servers, since a question has
// none.
func NameOpener(name string) spec.Rule {
	return spec.Rule{Allow: true, Named: spec.Named{Name: name, Ports: []spec.Ports{{First: 80, Last: 80}, {First: 443, Last: 443}}}}
}
