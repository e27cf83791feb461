package policy

import (
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Clouds give each machine its metadata, credentials among them, at addresses that only the machine itself can reach, and
// that a guest must not reach in the machine's name. Most are link-local. This file knows the others, and the forms of IPv6
// addresses that stand for IPv4 addresses.

// metadata are the networks outside 169.254.0.0/16 in which clouds keep metadata.
func metadata() [11]netip.Prefix {
	return [...]netip.Prefix{
		v4(100, 80, 80, 80),                               // UCloud
		v4(100, 96, 0, 96),                                // Volcano Engine and BytePlus
		v4(100, 100, 100, 200),                            // Alibaba
		v4(168, 63, 129, 16),                              // Azure: its control service, and a resolver
		v4(192, 0, 0, 192),                                // Oracle, of the first generation
		v6(32, 0xfd00, 0x0ec2),                            // Amazon: metadata ::254, pod identity ::23, resolver ::253, clock ::123
		v6(32, 0xfd00, 0x00c1),                            // Oracle: ::a9fe:a9fe
		v6(32, 0xfd20, 0x00ce),                            // Google: ::254
		v6(48, 0xfd00, 0xa9fe, 0xa9fe),                    // Akamai: ::1
		v6(128, 0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042),    // Scaleway
		v6(128, 0xfd00, 0x0100, 0, 0, 0, 0, 0x100, 0x200), // Alibaba
	}
}

func v4(a ...byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte(a)), 32) }

// v6 is a network of IPv6 by the first words of its address.
func v6(bits int, words ...uint16) netip.Prefix {
	var a [16]byte
	for i, w := range words {
		a[2*i], a[2*i+1] = byte(w>>8), byte(w)
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), bits)
}

// isCloseBy reports whether all of a network is link-local, or one in which clouds keep metadata, in whatever form it is written.
func isCloseBy(network netip.Prefix) bool {
	if isPlainlyCloseBy(network) {
		return true
	}
	inside := embedded(network)
	for _, e := range inside.all() {
		if isPlainlyCloseBy(e) {
			return true
		}
	}
	return false
}

func isPlainlyCloseBy(network netip.Prefix) bool {
	a := network.Addr()
	if a.IsLinkLocalUnicast() && (a.Is4() && network.Bits() >= 16 || a.Is6() && network.Bits() >= 10) {
		return true
	}
	for _, m := range metadata() {
		if network.Bits() >= m.Bits() && m.Contains(a) {
			return true
		}
	}
	return false
}

// classifyInside says whose an address is that belongs to nobody in particular, but may stand for one of IPv4 which does.
func (p *Policy) classifyInside(a netip.Addr) class {
	inside := embedded(netip.PrefixFrom(a, a.BitLen()))
	found := classInternet
	for _, e := range inside.all() {
		host := ipaddr.From(e.Addr())
		switch {
		case host.IsLoopback():
			return classLoopback
		case !e.Addr().IsUnspecified() && p.routes.IsLocal(&host): // that is what another form looks like
			return classHost
		case e.Addr().IsPrivate() || isShared(e.Addr()):
			found = classPrivate
		}
	}
	return found
}

// form is a way in which an address of IPv6 stands for one of IPv4.
type form struct {
	prefix   netip.Prefix
	at       [4]int // where the bytes are
	inverted bool
}

// forms are those in use. The prefix of a NAT64 that its operator chose is not known.
func forms() [10]form {
	last := [4]int{12, 13, 14, 15}
	local := v6(48, 0x64, 0xff9b, 1) // of a NAT64 (RFC 8215), where the length of the prefix is the operator's choice
	return [...]form{
		{prefix: v6(96, 0), at: last},                  // "compatible" (RFC 4291 section 2.5.5.1)
		{prefix: v6(96, 0, 0, 0, 0, 0xffff), at: last}, // "translated" (RFC 2765 section 2.1)
		{prefix: v6(96, 0x64, 0xff9b), at: last},       // of a NAT64 (RFC 6052 section 2.1)
		{prefix: local, at: last},                      // RFC 6052 section 2.2
		{prefix: local, at: [4]int{9, 10, 11, 12}},
		{prefix: local, at: [4]int{7, 9, 10, 11}},
		{prefix: local, at: [4]int{6, 7, 9, 10}},
		{prefix: v6(16, 0x2002), at: [4]int{2, 3, 4, 5}},   // 6to4 (RFC 3056)
		{prefix: v6(32, 0x2001), at: [4]int{4, 5, 6, 7}},   // Teredo (RFC 4380): its server
		{prefix: v6(32, 0x2001), at: last, inverted: true}, // and its client
	}
}

// inner is a list of networks that needs no memory of its own: the policy is asked for each new flow. It has room for one network of each
// form, and one of ISATAP.
type inner struct {
	list [11]netip.Prefix
	n    int
}

func (s *inner) add(network netip.Prefix) {
	s.list[s.n] = network
	s.n++
}

// all is valid as long as s is.
func (s *inner) all() []netip.Prefix { return s.list[:s.n] }

// embedded returns the networks of IPv4 that all of a network of IPv6 may stand for.
func embedded(network netip.Prefix) (inside inner) {
	if network.Addr().Is4() {
		return inside
	}
	b := network.Addr().As16()
	for _, f := range forms() {
		missing := 8*(f.at[3]+1) - network.Bits() // bits that are not fixed
		if network.Bits() < f.prefix.Bits() || !f.prefix.Contains(network.Addr()) || missing > 32 {
			continue
		}
		var a [4]byte
		for i, at := range f.at {
			a[i] = b[at]
			if f.inverted {
				a[i] = ^b[at]
			}
		}
		inside.add(netip.PrefixFrom(netip.AddrFrom4(a), 32-max(missing, 0)))
	}
	if isatap := [4]byte(b[8:12]); isatap == [4]byte{0, 0, 0x5e, 0xfe} || isatap == [4]byte{2, 0, 0x5e, 0xfe} { // RFC 5214 section 6.1
		if missing := 128 - network.Bits(); missing <= 32 {
			inside.add(netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), 32-missing))
		}
	}
	return inside
}

// NamesLinkLocal reports whether all of r's network is link-local, or of a cloud's metadata: what is closed unless a rule
// for nothing else opens it.
func NamesLinkLocal(r spec.Rule) bool { return !r.IsByName() && isCloseBy(r.Prefix) }
