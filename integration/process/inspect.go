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
