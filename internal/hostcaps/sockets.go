package hostcaps

import "golang.org/x/sys/unix"

// Options of sockets that x/sys does not have.
const (
	peekOffset = 42 // SO_PEEK_OFF, socket(7)
	solUDP     = 17 // level of udp(7)
)

// HasPeekOffset reports whether the kernel can be told where to peek in a TCP socket (SO_PEEK_OFF, since Linux 6.9).
func HasPeekOffset() bool { return knows(unix.SOCK_STREAM, unix.SOL_SOCKET, peekOffset) }

// HasUDPSegment reports whether the kernel can cut a message into datagrams (UDP_SEGMENT, since Linux 4.18).
func HasUDPSegment() bool { return knows(unix.SOCK_DGRAM, solUDP, unix.UDP_SEGMENT) }

// HasUDPGRO reports whether the kernel can put datagrams together for a socket (UDP_GRO, since Linux 5.0).
func HasUDPGRO() bool { return knows(unix.SOCK_DGRAM, solUDP, unix.UDP_GRO) }

// HasIPv6 reports whether the kernel has sockets of IPv6.
func HasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return err == nil && unix.Close(fd) == nil
}

// knows reports whether the kernel knows an option of a kind of socket.
func knows(kind, level, option int) bool {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, level, option, 0) == nil
}
