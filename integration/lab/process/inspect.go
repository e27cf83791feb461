package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Footprint is what a process holds that could leak.
type Footprint struct {
	FDs            int
	Threads        int
	SharedMappings int // of files that others may write: guest memory
}

// Server returns the process that serves guests for a vring that was started: pid itself, or a child that has its command line.
func Server(pid int) int {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return pid
	}
	for _, child := range Children(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if err == nil && arguments(text) == arguments(own) {
			return child
		}
	}
	return pid
}

// Children returns the processes that the threads of a process have started and that it has not waited for.
func Children(pid int) (all []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is right
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has just ended
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// arguments is a command line without the program's name.
func arguments(cmdline []byte) string {
	_, rest, _ := strings.Cut(string(cmdline), "\x00")
	return rest
}

// ReadFootprint counts what a process holds now.
func ReadFootprint(pid int) (Footprint, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return Footprint{}, err
	}
	threads, err := os.ReadDir(dir + "/task")
	if err != nil {
		return Footprint{}, err
	}
	maps, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return Footprint{}, err
	}
	return Footprint{FDs: len(fds), Threads: len(threads), SharedMappings: countShared(string(maps))}, nil
}

// countShared counts the lines of a maps file, see proc_pid_maps(5), whose permissions end in "s".
func countShared(maps string) int {
	n := 0
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasSuffix(fields[1], "s") {
			n++
		}
	}
	return n
}

// CPUTime returns the time that the threads of a process have spent on a processor, to the nanosecond. Threads that have
// ended are not in it.
func CPUTime(pid int) (time.Duration, error) {
	threads, err := ThreadTimes(pid)
	var sum time.Duration
	for _, used := range threads {
		sum += used
	}
	return sum, err
}

// ThreadTimes returns the time that each thread of a process has spent on a processor, by its number, from the schedstat
// files.
func ThreadTimes(pid int) (map[int]time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("process %d has no threads", pid)
	}
	times := map[int]time.Duration{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has just ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return nil, err
		}
		thread, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		times[thread] = time.Duration(ns)
	}
	return times, nil
}
