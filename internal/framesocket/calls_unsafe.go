package framesocket

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// The calls are raw: none of them waits, and the thread keeps its processor. The flag says so with each, since O_NONBLOCK belongs to the
// open file, which others may have, too.

// recv receives into v.
func recv(fd int, v guestmem.Iovec) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), v.Base, uintptr(v.Len), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendAll sends what is in iov as one, which is not empty. It returns how many bytes the socket has taken.
func sendAll(fd int, iov []guestmem.Iovec) (int, unix.Errno) {
	h := unix.Msghdr{Iov: (*unix.Iovec)(unsafe.Pointer(&iov[0])), Iovlen: uint64(len(iov))}
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
