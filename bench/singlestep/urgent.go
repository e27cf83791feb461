package singlestep

import "golang.org/x/sys/unix"

// raise puts the calling thread and another one before all ordinary threads until lower is called: each step is two changes
// of threads, at which others would come in between. Without the right to do so, counting only takes longer on a busy
// machine.
func raise(thread int) (lower func()) {
	// A real-time policy with the lowest of its priorities, see sched(7).
	fifo := unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1}
	if unix.SchedSetAttr(thread, &fifo, 0) != nil || unix.SchedSetAttr(0, &fifo, 0) != nil {
		return func() {}
	}
	return func() {
		ordinary := unix.SchedAttr{Policy: unix.SCHED_NORMAL}
		_ = unix.SchedSetAttr(0, &ordinary, 0)
		_ = unix.SchedSetAttr(thread, &ordinary, 0)
	}
}
