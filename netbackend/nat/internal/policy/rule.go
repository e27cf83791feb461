package policy

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// filters are rules as they are matched: one after the other, without a pointer to follow, for each new flow.
type filters []filter

// filter is one rule. Addresses are 16 bytes long, IPv4 mapped, so that there is one way only to write each of them.
type filter struct {
	network     ipaddr.Network
	index       int32 // in Config.Rules
	first, last uint16
	proto       uint8 // 0 for all
	is4         bool
	allow       bool
	linkLocal   bool // the network is a link-local one
	alone       bool // the network is one address
}

func newFilters(rules []spec.Rule) filters {
	list := make(filters, 0, len(rules))
	for i, r := range rules {
		if r.IsByName() {
			continue
		}
		f := filter{
			index:   int32(i),
			network: ipaddr.NetworkFrom(r.Prefix),
			first:   r.First, last: r.Last, proto: r.Proto, is4: r.Prefix.Addr().Is4(), allow: r.Allow,
			linkLocal: NamesLinkLocal(r), alone: r.Prefix.IsSingleIP(),
		}
		if f.first == 0 && f.last == 0 {
			f.last = 65535
		}
		list = append(list, f)
	}
	return list
}

// match returns the first rule that speaks of a destination, nil if none does. To open link-local addresses takes a
// rule that names nothing else: who opens everything hardly means the cloud's credentials.
func (l filters) match(proto uint8, to *ipaddr.Endpoint, linkLocal bool) *filter {
	at, is4 := to.Addr.Words(), to.Addr.Is4()
	for i := range l {
		f := &l[i]
		if !f.network.Contains(&at) {
			continue
		}
		if is4 != f.is4 || to.Port < f.first || to.Port > f.last || f.proto != 0 && f.proto != proto {
			continue
		}
		if f.allow && linkLocal && !f.linkLocal {
			continue
		}
		return f
	}
	return nil
}

// opens reports whether rules by address open any port of an address, or otherwise if none speaks of all of it.
func (l filters) opens(addr *ipaddr.Addr, linkLocal, otherwise bool) bool {
	at := addr.Words()
	for i := range l {
		f := &l[i]
		if f.is4 != addr.Is4() || !f.network.Contains(&at) || f.allow && linkLocal && !f.linkLocal {
			continue
		}
		if f.allow {
			return true
		}
		if f.proto == 0 && f.first == 0 && f.last == 65535 {
			return false
		}
	}
	return otherwise
}
