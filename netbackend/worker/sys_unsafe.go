package worker

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// epollWait is epoll_wait(2) with a timeout in nanoseconds, negative for ever. It blocks through Go's scheduler.
func epollWait(epfd int, events []unix.EpollEvent, timeout int64) (int, error) {
	var limit *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(timeout)
		limit = &t
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(limit)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// sleepsPrecisely tells whether the kernel has epoll_pwait2(2) (Linux 5.11), and prepares the calling thread for short
// sleeps.
func sleepsPrecisely(epfd int) bool {
	var none [1]unix.EpollEvent
	if _, err := epollWait(epfd, none[:], 0); err != nil {
		return false
	}
	return unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) == nil
}
