package hostsock

import (
	"golang.org/x/sys/unix"
)

// Reset closes a connected socket so that its peer sees a reset.
func Reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}
