package hostsock

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// KeepErrors lets the kernel keep what becomes of packets that leave by the socket fd to a; with 0 for on, it is not to keep it
// any more. Without it, it would keep most of that to itself, and who said so (ip(7), ipv6(7)).
func KeepErrors(a *ipaddr.Addr, fd, on int) {
	if a.Is4() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, on)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, on)
}

// WantAsked lets the kernel tell to which address and by which interface datagrams came to fd, a socket for a that is bound to all
// addresses. It reports whether the kernel does.
func WantAsked(a *ipaddr.Addr, fd int) bool {
	if a.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1) == nil
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) == nil
}

// IsAsked reports whether WantAsked has asked the kernel for that.
func IsAsked(fd int) bool {
	v4, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO)
	if err == nil && v4 != 0 {
		return true
	}
	v6, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO)
	return err == nil && v6 != 0
}

// ReadInline keeps urgent bytes of the host at their place in the stream. It must come before there can be any, for without it
// the kernel leaves one out when the next one comes.
func ReadInline(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
}

// WantArrivals lets the kernel tell how each packet came in that the socket fd receives, which is one for a.
func WantArrivals(a *ipaddr.Addr, fd int) {
	if a.Is4() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
}

// MaxTries is how often a read is tried again of which the kernel said, because of a signal, that there is nothing.
const MaxTries = 1000
