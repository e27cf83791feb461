package hostsock

import "golang.org/x/sys/unix"

// Queued returns how many bytes are in the receive queue of a connected socket, 0 if it is no connection any more.
func Queued(fd int32) int {
	n, err := unix.IoctlGetUint32(int(fd), unix.SIOCINQ)
	if err != nil {
		return 0
	}
	return int(n)
}
