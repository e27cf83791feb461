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

// batchSize is how many packets one call moves at most.
const batchSize = 64

// batch is the scratch of one sendmmsg or recvmmsg call.
type batch [batchSize]multiHeader

// multiHeader is the kernel's struct mmsghdr.
type multiHeader struct {
	hdr unix.Msghdr
	n   uint32 // bytes that were sent or received
	_   uint32
}

// set makes packet i one of the pieces in iov, which stay where they are until the call.
func (b *batch) set(i int, iov []guestmem.Iovec) {
	b[i] = multiHeader{hdr: unix.Msghdr{Iov: (*unix.Iovec)(unsafe.Pointer(&iov[0])), Iovlen: uint64(len(iov))}}
}

// send sends the first n packets, and returns how many the socket took. The error is that of the first.
func (b *batch) send(fd, n int) (int, unix.Errno) {
	return b.call(unix.SYS_SENDMMSG, fd, n, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// receive receives up to n packets.
func (b *batch) receive(fd, n int) (int, unix.Errno) {
	return b.call(unix.SYS_RECVMMSG, fd, n, unix.MSG_DONTWAIT)
}

func (b *batch) call(number uintptr, fd, n, flags int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(b)), uintptr(n), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// length returns how many bytes packet i has, and whether there were more that had no room.
func (b *batch) length(i int) (n int, cut bool) {
	return int(b[i].n), b[i].hdr.Flags&unix.MSG_TRUNC != 0
}
