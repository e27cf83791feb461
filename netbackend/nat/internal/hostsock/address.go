package hostsock

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// AddrPortOf takes what getsockname and getpeername return.
func AddrPortOf(sa unix.Sockaddr, err error) netip.AddrPort {
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)) // the link of a local one does not matter here
	}
	return netip.AddrPort{}
}
