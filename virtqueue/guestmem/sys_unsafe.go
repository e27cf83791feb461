package guestmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// PieceOf describes memory of ours as an iovec, to stand before or behind guest memory in one system call. The caller
// keeps b alive, and off the stack, for as long as the iovec is used.
func PieceOf(b []byte) Iovec { return Iovec{Base: address(b), Len: uint64(len(b))} }

// Readv reads from fd into iov (readv(2)). It uses the raw form of the call, of which the scheduler is not told: fd must
// be non-blocking, and its driver quick. iov has at most 1024 pieces.
func Readv(fd int, iov []Iovec) (int, unix.Errno) { return vectored(unix.SYS_READV, fd, iov) }

// Writev writes iov to fd (writev(2), or write(2), which takes one piece faster), as Readv reads.
func Writev(fd int, iov []Iovec) (int, unix.Errno) {
	if len(iov) == 1 {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), iov[0].Base, uintptr(iov[0].Len))
		return int(n), errno
	}
	return vectored(unix.SYS_WRITEV, fd, iov)
}

func vectored(call uintptr, fd int, iov []Iovec) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))
	return int(n), errno
}
