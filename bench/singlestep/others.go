package singlestep

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// others are the threads of a process that stand still.
type others []int

// holdOthers stops all threads of a process but its main one. Threads that start meanwhile are started by one that is
// not stopped yet, so they are found when the list is read again.
func holdOthers(pid int) (others, error) {
	held := others{}
	known := map[int]bool{pid: true}
	for {
		threads, err := threadsOf(pid)
		if err != nil {
			return held, err
		}
		found := false
		for _, thread := range threads {
			if known[thread] {
				continue
			}
			known[thread], found = true, true
			stopped, err := hold(thread)
			if err != nil {
				return held, err
			}
			if stopped {
				held = append(held, thread)
			}
		}
		if !found {
			return held, nil
		}
	}
}

func threadsOf(pid int) (threads []int, err error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		thread, err := strconv.Atoi(entry.Name())
		if err != nil {
			return nil, err
		}
		threads = append(threads, thread)
	}
	return threads, nil
}

// hold stops a thread. It reports false if the thread has ended.
func hold(thread int) (stopped bool, err error) {
	if err := unix.PtraceSeize(thread); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return false, nil
		}
		return false, os.NewSyscallError("PTRACE_SEIZE", err)
	}
	if err := unix.PtraceInterrupt(thread); err != nil {
		return false, os.NewSyscallError("PTRACE_INTERRUPT", err)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(thread, &status, unix.WALL, nil)
		if err == nil {
			return status.Stopped(), nil
		}
		if !errors.Is(err, unix.EINTR) {
			return false, os.NewSyscallError("wait4", err)
		}
	}
}

// release lets the threads go on.
func (o others) release() error {
	var errs []error
	for _, thread := range o {
		errs = append(errs, os.NewSyscallError("PTRACE_DETACH", unix.PtraceDetach(thread)))
	}
	return errors.Join(errs...)
}
