package vhostuser

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noFD stands for a descriptor that is not there.
const noFD = -1

// prepareNotifier readies a descriptor that a front end passed for kicks, calls or errors. Usually that is an eventfd,
// but User-mode Linux passes blocking stream sockets: non-blocking, a full one can hold nobody up. Files and devices are
// refused, since non-blocking means nothing to them.
func prepareNotifier(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	switch st.Mode & unix.S_IFMT {
	case 0, unix.S_IFIFO, unix.S_IFSOCK: // 0 is an anonymous inode, such as an eventfd
	default:
		return fmt.Errorf("is a file of type %#o, want an eventfd, a pipe or a socket", st.Mode&unix.S_IFMT)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set non-blocking: %w", err)
	}
	return nil
}

// signal writes a 1 to an eventfd, or whatever stands for one. Nothing can be done about an error.
func signal(fd int) {
	if fd >= 0 {
		one := [8]byte{1} // little endian; an eventfd adds it to its counter
		_, _ = unix.Write(fd, one[:])
	}
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
