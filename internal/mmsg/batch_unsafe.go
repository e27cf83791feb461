package mmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Size is how many packets one call moves at most.
const Size = 64

// Batch is the scratch of one sendmmsg or recvmmsg call.
type Batch [Size]multiHeader

// multiHeader is the kernel's struct mmsghdr.
type multiHeader struct {
	hdr unix.Msghdr
	n   uint32 // bytes that were sent or received
	_   uint32
}

// Name is the address of an IPv4 or IPv6 socket as the kernel has it (struct sockaddr_in, sockaddr_in6).
type Name struct {
	raw unix.RawSockaddrInet6 // whose beginning is that of a RawSockaddrInet4
	n   uint32                // bytes of it
}

// Set makes packet i one of the pieces in iov, which stay where they are until the call.
func (b *Batch) Set(i int, iov []guestmem.Iovec) {
	b[i] = multiHeader{hdr: unix.Msghdr{Iov: (*unix.Iovec)(unsafe.Pointer(&iov[0])), Iovlen: uint64(len(iov))}}
}

// SetTo is Set for a packet to name, which stays where it is until the call. A packet that is received has its sender's address there, of
// the most bytes that there are for one.
func (b *Batch) SetTo(i int, iov []guestmem.Iovec, name *Name) {
	b.Set(i, iov)
	b[i].hdr.Name, b[i].hdr.Namelen = (*byte)(unsafe.Pointer(&name.raw)), name.n
}

// Send sends the first n packets, and returns how many the socket took. The error is that of the first.
func (b *Batch) Send(fd, n int) (int, unix.Errno) {
	return b.call(unix.SYS_SENDMMSG, fd, n, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// Receive receives up to n packets.
func (b *Batch) Receive(fd, n int) (int, unix.Errno) {
	return b.call(unix.SYS_RECVMMSG, fd, n, unix.MSG_DONTWAIT)
}

func (b *Batch) call(number uintptr, fd, n, flags int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(b)), uintptr(n), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// Length returns how many bytes packet i has, and whether there were more that had no room.
func (b *Batch) Length(i int) (n int, cut bool) {
	return int(b[i].n), b[i].hdr.Flags&unix.MSG_TRUNC != 0
}
