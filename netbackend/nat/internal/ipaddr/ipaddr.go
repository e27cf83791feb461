package ipaddr

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addr is an IP address of either version, IPv4 mapped (RFC 4291 section 2.5.5.2). Its zero value is the unspecified address of
// IPv6. Methods have pointer receivers, since the address is mostly a field of a flow or a packet.
type Addr [16]byte

// From returns a as an Addr, without its zone.
func From(a netip.Addr) Addr { return a.As16() }

// From4 returns the IPv4 address in the first four bytes of b, in network order.
func From4(b []byte) (a Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

// Netip returns a as the standard library has it, IPv4 unmapped.
func (a *Addr) Netip() netip.Addr { return netip.AddrFrom16(*a).Unmap() }

// Is4 reports whether a is an IPv4 address.
func (a *Addr) Is4() bool {
	return binary.BigEndian.Uint64(a[:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}

// Bytes returns a as packets carry it, in 4 bytes or 16. They are a's own.
func (a *Addr) Bytes() []byte {
	if a.Is4() {
		return a[12:]
	}
	return a[:]
}

// Words returns a as two integers in the order of the host, most significant first, for comparing under a mask.
func (a *Addr) Words() [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
}

// HeaderLen returns the length in bytes of the IP header, without options, of packets from or to a.
func (a *Addr) HeaderLen() int {
	const ipv4, ipv6 = 20, 40 // RFC 791 section 3.1, RFC 8200 section 3
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// IsUnicast reports whether a is the address of one host: not 0/8, multicast, or the reserved and broadcast ones above
// (RFC 1122 section 3.2.1.3), and in IPv6 neither unspecified nor multicast (RFC 4291 sections 2.5.2 and 2.7).
func (a *Addr) IsUnicast() bool {
	if a.Is4() {
		return a[12] != 0 && a[12] < 224
	}
	return a[0] != 0xff && *a != Addr{}
}

// IsMulticast reports whether a is that of a group (RFC 5771; RFC 4291 section 2.7).
func (a *Addr) IsMulticast() bool {
	if a.Is4() {
		return a[12]>>4 == 0xe
	}
	return a[0] == 0xff
}

// IsLoopback reports whether a is an address of the host that uses it (RFC 1122 section 3.2.1.3; RFC 4291 section 2.5.3).
func (a *Addr) IsLoopback() bool {
	if a.Is4() {
		return a[12] == 127
	}
	return *a == Addr{15: 1}
}

// IsLinkLocal reports whether a is an IPv6 address of fe80::/10, which is valid on one link only (RFC 4291 section 2.5.6). The
// address does not say on which.
func (a *Addr) IsLinkLocal() bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// Domain returns the address family of sockets for a.
func (a *Addr) Domain() int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Endpoint is an address and a port. The port is 0 where the protocol has none.
type Endpoint struct {
	Addr Addr
	Port uint16
}

// EndpointFrom returns a as an Endpoint, without its zone.
func EndpointFrom(a netip.AddrPort) Endpoint { return Endpoint{Addr: From(a.Addr()), Port: a.Port()} }

// Netip returns e as the standard library has it, IPv4 unmapped.
func (e Endpoint) Netip() netip.AddrPort { return netip.AddrPortFrom(e.Addr.Netip(), e.Port) }

// Sockaddr returns e for a system call. It allocates: use it where a socket is set up, not for each datagram.
func (e Endpoint) Sockaddr() unix.Sockaddr {
	if e.Addr.Is4() {
		return &unix.SockaddrInet4{Addr: [4]byte(e.Addr.Bytes()), Port: int(e.Port)}
	}
	return &unix.SockaddrInet6{Addr: e.Addr, Port: int(e.Port)}
}
