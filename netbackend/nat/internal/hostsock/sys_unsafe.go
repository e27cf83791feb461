package hostsock

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Message is the scratch of one sendmsg or recvmsg call. Its owner keeps it, so that a call allocates nothing. Not safe for
// concurrent use.
type Message struct {
	hdr    unix.Msghdr
	name   unix.RawSockaddrInet6 // large enough for IPv4 too
	err    errorControl
	pieces [1]guestmem.Iovec

	arrivals arrivalControl
	Arrived  Arrival // of what ReceiveArrival received last
}

// The calls below use the raw form: the sockets are ours and non-blocking, so none of them sleeps, and the scheduler
// need not hear of them.

// Send writes iov to fd, to the peer that it is connected to. flags are some of sendmsg(2).
func (m *Message) Send(fd int32, iov []guestmem.Iovec, flags uintptr) (int, unix.Errno) {
	m.set(iov, 0)
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)),
		flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return int(n), errno
}

// Receive reads from fd into iov. With named set the sender is what From returns afterwards. truncated tells that a datagram
// was longer than iov.
func (m *Message) Receive(fd int32, iov []guestmem.Iovec, flags uintptr, named bool) (n int, truncated bool, errno unix.Errno) {
	var nameLen uint32
	if named {
		nameLen = uint32(unsafe.Sizeof(m.name))
	}
	m.set(iov, nameLen)
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), flags|unix.MSG_DONTWAIT)
	return int(r), m.hdr.Flags&unix.MSG_TRUNC != 0, errno
}

func (m *Message) set(iov []guestmem.Iovec, nameLen uint32) {
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

// From returns who sent what was received last.
func (m *Message) From() ipaddr.Endpoint { return endpointIn(&m.name) }

// ControlCut reports whether control messages stood in the way of what was received last: a mark of urgent data, or file
// descriptors that a unix client has sent along.
func (m *Message) ControlCut() bool { return m.hdr.Flags&unix.MSG_CTRUNC != 0 }

// Discard removes n bytes from the receive queue of the TCP socket fd, without copying them. They are there: in front of an urgent
// byte the kernel says EAGAIN all the same while a signal is pending, such as the runtime sends, which is over when the call is.
func Discard(fd int32, n uint32) (int, unix.Errno) {
	for tries := 1; ; tries++ {
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EAGAIN || tries == MaxTries {
			return int(r), errno
		}
	}
}

// MemInfo is what SO_MEMINFO answers (linux/sock_diag.h).
type MemInfo [9]uint32

const (
	soMemInfo = 55 // SO_MEMINFO

	// Where the figures of a socket stand in MemInfo.
	MemReceiveTaken  = 0 // SK_MEMINFO_RMEM_ALLOC
	MemReceiveBuffer = 1 // SK_MEMINFO_RCVBUF
	MemSendTaken     = 2 // SK_MEMINFO_WMEM_ALLOC
	MemSendBuffer    = 3 // SK_MEMINFO_SNDBUF
	MemSendQueued    = 5 // SK_MEMINFO_WMEM_QUEUED

	SOPeekOff   = 42 // SO_PEEK_OFF, which x/sys does not have
	sizeOfInt32 = 4
)

// Read asks the kernel for the buffer use of fd.
func (m *MemInfo) Read(fd int32) unix.Errno {
	size := uint32(unsafe.Sizeof(*m))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, soMemInfo,
		uintptr(unsafe.Pointer(m)), uintptr(unsafe.Pointer(&size)), 0)
	return errno
}

// SetPeekOffset sets where MSG_PEEK starts to read in the receive queue of fd.
func SetPeekOffset(fd int32, offset int32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, SOPeekOff,
		uintptr(unsafe.Pointer(&offset)), sizeOfInt32, 0)
	return errno
}
