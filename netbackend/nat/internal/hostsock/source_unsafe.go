package hostsock

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// PeerOf returns where the socket fd is connected to, NameOf its own end; the zero endpoint if there is none.
func PeerOf(fd int32) ipaddr.Endpoint { return askName(unix.SYS_GETPEERNAME, fd) }
func NameOf(fd int32) ipaddr.Endpoint { return askName(unix.SYS_GETSOCKNAME, fd) }

func askName(call uintptr, fd int32) ipaddr.Endpoint {
	var name unix.RawSockaddrInet6
	n := uint32(unsafe.Sizeof(name))
	if _, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&n))); errno != 0 {
		return ipaddr.Endpoint{}
	}
	return endpointIn(&name)
}

// Connect connects a socket of datagrams, which takes no time.
func Connect(fd int32, to *ipaddr.Endpoint) unix.Errno {
	var name unix.RawSockaddrInet6
	n := putName(&name, to)
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(n))
	return errno
}

// Disconnect takes peer, address and port from a connected socket of datagrams (connect(2), AF_UNSPEC). Until it is connected
// again it receives nothing; what it has received stays.
func Disconnect(fd int32) unix.Errno {
	name := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&name)), unsafe.Sizeof(name))
	return errno
}
