package mmsg

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NameOf returns the name of an address with a port. A zone must be the number of an interface, or none.
func NameOf(a netip.AddrPort, zone uint32) (n Name) {
	port := binary.NativeEndian.Uint16([]byte{byte(a.Port() >> 8), byte(a.Port())})
	if a.Addr().Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&n.raw))
		v4.Family, v4.Port, v4.Addr = unix.AF_INET, port, a.Addr().As4()
		n.n = unix.SizeofSockaddrInet4
		return n
	}
	n.raw.Family, n.raw.Port, n.raw.Addr, n.raw.Scope_id = unix.AF_INET6, port, a.Addr().As16(), zone
	n.n = unix.SizeofSockaddrInet6
	return n
}

// Expect readies the name for the sender of a packet that is received.
func (n *Name) Expect() { n.n = unix.SizeofSockaddrInet6 }

// Addr returns the address as 16 bytes, IPv4 mapped into IPv6, without the port; zeros if it is none of IP.
func (n *Name) Addr() (b [16]byte) {
	switch n.raw.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&n.raw))
		b[10], b[11] = 0xff, 0xff
		copy(b[12:], v4.Addr[:])
	case unix.AF_INET6:
		b = n.raw.Addr
	}
	return b
}
