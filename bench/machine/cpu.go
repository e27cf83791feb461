package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/bench/measure"
)

// GroupTimes returns the processor time of a program that was started in a process group of its own: of the group, and of the
// leader's children in other groups, such as the process with which vring serves guests. It is exact to the
// nanosecond; what ended threads and processes have used is not in it.
func GroupTimes(group int) (measure.Times, error) {
	var sum measure.Times
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return sum, err
	}
	members := 0
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // the process has just ended
		}
		pid, parent, pgrp, err := parseStat(string(stat))
		if err != nil {
			return sum, err
		}
		if pgrp != group && parent != group {
			continue
		}
		members++
		used, err := processTimes(pid)
		if err != nil {
			return sum, err
		}
		sum = sum.Add(used)
	}
	if members == 0 {
		return sum, fmt.Errorf("process group %d has ended", group)
	}
	return sum, nil
}

// processTimes returns the processor time of the threads of a process, none if it has ended.
func processTimes(pid int) (measure.Times, error) {
	var sum measure.Times
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return sum, err
	}
	for _, file := range files {
		schedstat, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has just ended
		}
		used, err := parseSchedstat(string(schedstat))
		if err != nil {
			return sum, err
		}
		sum = sum.Add(used)
	}
	return sum, nil
}

// ThreadTimes returns the processor time of one thread of a process.
func ThreadTimes(pid, thread int) (measure.Times, error) {
	schedstat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, thread))
	if err != nil {
		return measure.Times{}, err
	}
	return parseSchedstat(string(schedstat))
}

// parseSchedstat reads a thread's schedstat file, see Documentation/scheduler/sched-stats.rst of Linux: nanoseconds on a
// processor, nanoseconds of waiting for one, count of time slices.
func parseSchedstat(text string) (measure.Times, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return measure.Times{}, fmt.Errorf("no schedstat file: %q", text)
	}
	running, errRunning := strconv.ParseInt(fields[0], 10, 64)
	waiting, errWaiting := strconv.ParseInt(fields[1], 10, 64)
	return measure.Times{Running: time.Duration(running), Waiting: time.Duration(waiting)}, errors.Join(errRunning, errWaiting)
}

// parseStat reads process, parent and process group from a stat file, see proc_pid_stat(5). The name of the program, which may
// contain anything, is in parentheses.
func parseStat(stat string) (pid, parent, pgrp int, err error) {
	begin, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if begin < 0 || end < begin {
		return 0, 0, 0, fmt.Errorf("no stat file: %q", stat)
	}
	fields := strings.Fields(stat[end+1:]) // state, parent, group
	if len(fields) < 3 {
		return 0, 0, 0, fmt.Errorf("stat file with too few fields: %q", stat)
	}
	var errs [3]error
	pid, errs[0] = strconv.Atoi(strings.TrimSpace(stat[:begin]))
	parent, errs[1] = strconv.Atoi(fields[1])
	pgrp, errs[2] = strconv.Atoi(fields[2])
	return pid, parent, pgrp, errors.Join(errs[:]...)
}

// OwnCPU returns the processor time of this process.
func OwnCPU() (time.Duration, error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, os.NewSyscallError("getrusage", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
