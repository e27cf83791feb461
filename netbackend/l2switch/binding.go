package l2switch

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// binding holds the addresses of IP that a guest may have. It does not change.
type binding struct{ prefixes []netip.Prefix }

// newBinding returns the binding to some prefixes; nil without one, for a guest that is not bound.
func newBinding(prefixes []netip.Prefix) *binding {
	if len(prefixes) == 0 {
		return nil
	}
	b := &binding{}
	for _, p := range prefixes {
		b.prefixes = append(b.prefixes, p.Masked())
	}
	return b
}

// etherTypeServiceTag is the type of a service tag (IEEE 802.1ad).
const etherTypeServiceTag = 0x88a8

// refuses reports whether a frame claims an address of IP that the guest may not have. frame begins with a type, and is a copy
// that no guest can change, or the beginning of one with all headers.
//
// It is what switches call source guard, with inspection of ARP and of neighbour discovery (RFC 7039). The unspecified address, with which a host asks whether its
// own is free, and asks for one, may be sent by all. A frame with another tag is refused, since a receiver could look behind it.
func (b *binding) refuses(frame []byte) bool {
	if len(frame) < 2 {
		return false
	}
	switch packet := frame[2:]; binary.BigEndian.Uint16(frame) {
	case etherTypeARP:
		const sender, length = 14, 28
		return len(packet) < length || !b.has4(packet[sender:])
	case vnet.EtherTypeIPv4:
		const source, header = 12, 20
		return len(packet) < header || !b.has4(packet[source:])
	case vnet.EtherTypeIPv6:
		return b.refusesIPv6(packet)
	case etherTypeTag, etherTypeServiceTag:
		return true
	}
	return false
}

func (b *binding) refusesIPv6(packet []byte) bool {
	const source, header = 8, 40
	if len(packet) < header || !b.has6(packet[source:]) {
		return true
	}
	proto, at, whole := upperLayer(packet)
	if !whole {
		return true
	}
	if proto != protoICMPv6 || at < 0 {
		return false
	}
	const target, length = 8, 24
	message := packet[at:]
	return len(message) == 0 || message[0] == ndpAdvertises && (len(message) < length || !b.has6(message[target:]))
}

// has4 reports whether the guest may have the address that begins here, or it is the unspecified one.
func (b *binding) has4(at []byte) bool { return b.has(netip.AddrFrom4([4]byte(at))) }

// has6 is has4 for IPv6.
func (b *binding) has6(at []byte) bool { return b.has(netip.AddrFrom16([16]byte(at))) }

func (b *binding) has(a netip.Addr) bool {
	return a.IsUnspecified() || slices.ContainsFunc(b.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
