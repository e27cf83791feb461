package tap

import (
	"time"

	"golang.org/x/sys/unix"
)

// lock keeps other processes of this program, in the same network namespace, from making or removing the interface of a
// name until release is called, so that nobody acts on what he saw before another one acted. The lock is an abstract unix
// socket, which the kernel keeps for each network namespace, and which goes away with its process. Whoever holds it for
// too long, be it to harm, is not waited for: without the lock, what happens at the same moment can still fail.
func lock(name string) (release func()) {
	const patience, pause = 5 * time.Second, 2 * time.Millisecond
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	address := &unix.SockaddrUnix{Name: "@vring/interface/" + name}
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		if unix.Bind(fd, address) == nil || time.Now().After(deadline) {
			return func() { _ = unix.Close(fd) }
		}
	}
}
