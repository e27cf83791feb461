package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
)

// threadFlags say how the threads of guests use processors.
type threadFlags struct {
	poll int // microseconds
	cpus string
}

const (
	// cpuListForm is what --cpus reads like.
	cpuListForm = "numbers of processors and ranges of them, as in 2,4-7"
	// maxCPU is what the kernel's masks of package unix hold.
	maxCPU = 1023
)

func (f *threadFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.poll, "poll-us", int(daemon.DefaultPoll/time.Microsecond), "after work, poll the rings for up to this many microseconds before sleeping, unless a thread waits for a processor; 0 never polls")
	flags.StringVar(&f.cpus, "cpus", "", "pin the guests' threads to these processors, one each: "+cpuListForm+" (default: no pinning)")
}

// config is what the flags say.
func (f *threadFlags) config() (daemon.Threads, error) {
	cpus, err := parseCPUs(f.cpus)
	return daemon.Threads{Poll: time.Duration(f.poll) * time.Microsecond, CPUs: cpus}, err
}

// parseCPUs reads the list of --cpus.
func parseCPUs(text string) (all []int, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, err := parseCPURange(part)
		if err != nil {
			return nil, fmt.Errorf("--cpus %q: %w", text, err)
		}
		for cpu := first; cpu <= last; cpu++ {
			all = append(all, cpu)
		}
	}
	return all, nil
}

// parseCPURange reads N or N-M.
func parseCPURange(text string) (first, last int, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, errFirst := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	if errFirst != nil || errLast != nil || first < 0 || last < first || last > maxCPU {
		return 0, 0, fmt.Errorf("want %s", cpuListForm)
	}
	return first, last, nil
}
