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

// epollBriefly is epollWait without Go's scheduler: the thread keeps its processor.
func epollBriefly(epfd int, events []unix.EpollEvent, timeout int64) (int, error) {
	limit := unix.NsecToTimespec(timeout)
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// napFor sleeps for so many nanoseconds, like epollBriefly. A signal may end it, which is no loss.
func napFor(d int64) {
	t := unix.NsecToTimespec(d)
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
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
