package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	// maxCPU is what the kernel's masks of package unix hold.
	maxCPU = 1023
)

func (f *threadFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.poll, "poll-us", defaultPoll, "look at the rings for up to so many microseconds after work before sleeping, while no thread waits for a processor; 0: never")
	flags.StringVar(&f.cpus, "cpus", "", "processors to pin the guests' threads to, one each, as in 2,4-7 (default: wherever the kernel likes)")
}

func (f *threadFlags) check() error {
	_, err := f.processors()
	if f.poll < 0 || f.poll > maxPoll {
		err = errors.Join(err, fmt.Errorf("--poll-us %d is not between 0 and %d", f.poll, maxPoll))
	}
	return err
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
		return 0, 0, errors.New("want numbers and ranges, as in 2,4-7")
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
