package vhostuser

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noFD stands for a descriptor that is not there.
const noFD = -1

// prepareNotifier readies a descriptor that a front end passed for kicks, calls or errors. Usually that is an eventfd,
// but User-mode Linux passes blocking stream sockets: non-blocking, a full one can hold nobody up. All else is refused:
// non-blocking means nothing to files and devices, and nobody needs pipes, which could not be served without a chance
// to block once the front end makes them blocking again.
func prepareNotifier(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	switch st.Mode & unix.S_IFMT {
	case 0, unix.S_IFSOCK: // 0 is an anonymous inode, such as an eventfd
	default:
		return fmt.Errorf("is a file of type %#o, want an eventfd or a socket", st.Mode&unix.S_IFMT)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set non-blocking: %w", err)
	}
	return nil
}

// signal writes a 1 to an eventfd, or whatever stands for one. Nothing can be done about an error.
//
// O_NONBLOCK belongs to the open file, which the front end shares. It can clear the flag and fill the eventfd, so it is
// asked first whether there is room. A front end that fills it between the two can still hold the session's goroutine up;
// Serve ends in spite of that (see active.wait).
func signal(fd int) {
	room := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(room, 0); fd < 0 || err != nil || n == 0 {
		return
	}
	one := [8]byte{1} // little endian; an eventfd adds it to its counter
	_, _ = unix.Write(fd, one[:])
}

// unblock lets a thread of the device go on that writes to an eventfd which its front end has filled and made blocking.
// The read itself never waits, whatever the front end does meanwhile: RWF_NOWAIT goes with this call alone. Kernels before
// 5.8 refuse it; there the thread waits for as long as somebody keeps the eventfd full.
func unblock(fd int) {
	if fd >= 0 {
		var counter [8]byte
		_, _ = unix.Preadv2(fd, [][]byte{counter[:]}, -1, unix.RWF_NOWAIT)
	}
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
