package multicast

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Group is a protocol by which services are discovered.
type Group uint8

// The groups.
const (
	MDNS Group = iota
	SSDP
	groups
)

// Ports of the groups.
const (
	MDNSPort = 5353
	SSDPPort = 1900
)

// Hops are the time to live of multicast DNS (RFC 6762 section 11), and of SSDP (UPnP Device Architecture 2.0 section 1.1.2).
const (
	MDNSHops = 255
	SSDPHops = 2
)

// MaxPayload is the longest datagram that is passed on, in bytes. One of mDNS may have 9000 with its headers (RFC 6762 section 17).
const MaxPayload = 9000 - 20 - 8

// Versions of IP.
const (
	v4 = iota
	v6
	versions
)

// Address returns the address of the group in a version of IP.
func (g Group) Address(is6 bool) netip.Addr {
	switch {
	case g == MDNS && is6:
		return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 0xfb})
	case g == MDNS:
		return netip.AddrFrom4([4]byte{224, 0, 0, 251})
	case is6:
		return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 0x0c})
	}
	return netip.AddrFrom4([4]byte{239, 255, 255, 250})
}

// Port is where the group listens.
func (g Group) Port() uint16 {
	if g == MDNS {
		return MDNSPort
	}
	return SSDPPort
}

// hops are those of what goes to the group.
func (g Group) hops() int {
	if g == MDNS {
		return MDNSHops
	}
	return SSDPHops
}

// Of returns the group that listens at an address and port; !ok if none does.
func Of(to netip.AddrPort) (g Group, ok bool) {
	for g := range groups {
		if to.Port() == g.Port() && to.Addr() == g.Address(to.Addr().Is6()) {
			return g, true
		}
	}
	return 0, false
}

// sockaddr is where the group listens on a link.
func (g Group) sockaddr(version int, index uint32) unix.Sockaddr {
	a := g.Address(version == v6)
	if version == v4 {
		return &unix.SockaddrInet4{Port: int(g.Port()), Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: int(g.Port()), Addr: a.As16(), ZoneId: index}
}
