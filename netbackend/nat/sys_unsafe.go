package nat

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// message is the scratch of one sendmsg or recvmsg call. It lives in the Port, so that a call allocates nothing.
type message struct {
	hdr    unix.Msghdr
	name   unix.RawSockaddrInet6 // large enough for IPv4 too
	err    errorControl
	pieces [1]guestmem.Iovec

	arrivals arrivalControl
	arrived  arrival
}

// The calls below use the raw form: the sockets are ours and non-blocking, so none of them sleeps, and the scheduler
// need not hear of them.

// send writes iov to fd, to the peer that it is connected to. flags are some of sendmsg(2).
func (m *message) send(fd int32, iov []guestmem.Iovec, flags uintptr) (int, unix.Errno) {
	m.set(iov, 0)
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)),
		flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return int(n), errno
}

// receive reads from fd into iov. With named set the sender is in m.name afterwards. truncated tells that a datagram
// was longer than iov.
func (m *message) receive(fd int32, iov []guestmem.Iovec, flags uintptr, named bool) (n int, truncated bool, errno unix.Errno) {
	var nameLen uint32
	if named {
		nameLen = uint32(unsafe.Sizeof(m.name))
	}
	m.set(iov, nameLen)
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), flags|unix.MSG_DONTWAIT)
	return int(r), m.hdr.Flags&unix.MSG_TRUNC != 0, errno
}

func (m *message) set(iov []guestmem.Iovec, nameLen uint32) {
	m.hdr = unix.Msghdr{}
	if len(iov) > 0 {
		m.hdr.Iov = (*unix.Iovec)(unsafe.Pointer(&iov[0]))
		m.hdr.Iovlen = uint64(len(iov))
	}
	if nameLen > 0 {
		m.hdr.Name = (*byte)(unsafe.Pointer(&m.name))
		m.hdr.Namelen = nameLen
	}
}

// from returns who sent what was received last.
func (m *message) from() ipaddr.Endpoint { return endpointIn(&m.name) }

// drop removes n bytes from the receive queue of the TCP socket fd, without copying them. They are there: in front of an urgent
// byte the kernel says EAGAIN all the same while a signal is pending, such as the runtime sends, which is over when the call is.
func drop(fd int32, n uint32) (int, unix.Errno) {
	for tries := 1; ; tries++ {
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EAGAIN || tries == mostTries {
			return int(r), errno
		}
	}
}

// memInfo is what SO_MEMINFO answers (linux/sock_diag.h).
type memInfo [9]uint32

const (
	soMemInfo     = 55 // SO_MEMINFO
	memSendTaken  = 2  // SK_MEMINFO_WMEM_ALLOC
	memSendBuffer = 3  // SK_MEMINFO_SNDBUF
	memSendQueued = 5  // SK_MEMINFO_WMEM_QUEUED
	soPeekOff     = 42 // SO_PEEK_OFF
	sizeOfInt32   = 4
)

// read asks the kernel for the buffer use of fd.
func (m *memInfo) read(fd int32) unix.Errno {
	size := uint32(unsafe.Sizeof(*m))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, soMemInfo,
		uintptr(unsafe.Pointer(m)), uintptr(unsafe.Pointer(&size)), 0)
	return errno
}

// setPeekOffset sets where MSG_PEEK starts to read in the receive queue of fd.
func setPeekOffset(fd int32, offset int32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, soPeekOff,
		uintptr(unsafe.Pointer(&offset)), sizeOfInt32, 0)
	return errno
}
