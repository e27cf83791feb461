package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// threadFlags say how the threads of guests use processors.
type threadFlags struct {
	poll int // microseconds
	cpus string
}

const (
	// defaultPoll is some times what it costs to be woken; docs/performance.md has figures.
	defaultPoll = 50
	// maxPoll is a second. Whoever wants to poll for ever has a processor to give away.
	maxPoll = 1_000_000
	// cpuListForm is what --cpus reads like.
	cpuListForm = "numbers of processors and ranges of them, as in 2,4-7"
	// maxCPU is what the kernel's masks of package unix hold.
	maxCPU = 1023
)

func (f *threadFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.poll, "poll-us", defaultPoll, "after work, poll the rings for up to this many microseconds before sleeping, unless a thread waits for a processor; 0 never polls")
	flags.StringVar(&f.cpus, "cpus", "", "pin the guests' threads to these processors, one each: "+cpuListForm+" (default: no pinning)")
}

func (f *threadFlags) check() error {
	var errs *multierror.Error
	if f.poll < 0 || f.poll > maxPoll {
		errs = multierror.Append(errs, fmt.Errorf("--poll-us %d: want 0 to %d", f.poll, maxPoll))
	}
	_, err := f.processors()
	return multierror.Append(errs, err).ErrorOrNil()
}

func (f *threadFlags) bound() time.Duration { return time.Duration(f.poll) * time.Microsecond }

// processors reads the list. The process must be allowed on all of them.
func (f *threadFlags) processors() ([]int, error) {
	if f.cpus == "" {
		return nil, nil
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("--cpus: %w", err)
	}
	var all []int
	for part := range strings.SplitSeq(f.cpus, ",") {
		first, last, err := parseCPURange(part)
		if err != nil {
			return nil, fmt.Errorf("--cpus %q: %w", f.cpus, err)
		}
		for cpu := first; cpu <= last; cpu++ {
			if !allowed.IsSet(cpu) {
				return nil, fmt.Errorf("--cpus %q: there is no processor %d for this process", f.cpus, cpu)
			}
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

// from returns the processors in the order in which threads get them, beginning with that of thread first.
func (f *threadFlags) from(first int) []int {
	all, _ := f.processors() // was checked
	return rotated(all, first)
}

// rotated returns list from element first on, which counts round and round.
func rotated(list []int, first int) []int {
	if len(list) == 0 {
		return nil
	}
	first %= len(list)
	return slices.Concat(list[first:], list[:first])
}
