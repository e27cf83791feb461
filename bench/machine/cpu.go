package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/process"
)

// GroupCPU returns the processor time of a process group: of a program that was started in a group of its own, and of its
// children. It is exact to the nanosecond; what ended threads and processes have used is not in it.
func GroupCPU(group int) (time.Duration, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	members := 0
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // the process has just ended
		}
		pid, pgrp, err := parseStat(string(stat))
		if err != nil {
			return 0, err
		}
		if pgrp != group {
			continue
		}
		members++
		used, err := process.CPUTime(pid)
		if err != nil {
			continue // as above
		}
		sum += used
	}
	if members == 0 {
		return 0, fmt.Errorf("process group %d has ended", group)
	}
	return sum, nil
}

// parseStat reads process and process group from a stat file, see proc_pid_stat(5). The name of the program, which may
// contain anything, is in parentheses.
func parseStat(stat string) (pid, pgrp int, err error) {
	begin, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if begin < 0 || end < begin {
		return 0, 0, fmt.Errorf("no stat file: %q", stat)
	}
	fields := strings.Fields(stat[end+1:]) // state, parent, group
	if len(fields) < 3 {
		return 0, 0, fmt.Errorf("stat file with too few fields: %q", stat)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(stat[:begin])); err != nil {
		return 0, 0, err
	}
	pgrp, err = strconv.Atoi(fields[2])
	return pid, pgrp, err
}

// OwnCPU returns the processor time of this process.
func OwnCPU() (time.Duration, error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, os.NewSyscallError("getrusage", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
