package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
)

// threadFlags say how the threads of guests use processors.
type threadFlags struct {
	poll int // microseconds
	cpus string
}

func (f *threadFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.poll, "poll-us", int(daemon.DefaultPoll/time.Microsecond), "after work, poll the rings for up to this many microseconds before sleeping, unless a thread waits for a processor; 0 never polls")
	flags.StringVar(&f.cpus, "cpus", "", "pin the guests' threads to these processors, one each: "+daemon.CPUListForm+" (default: no pinning)")
}

// config is what the flags say.
func (f *threadFlags) config() (c daemon.Threads, err error) {
	c.Poll = time.Duration(f.poll) * time.Microsecond
	if f.cpus != "" {
		c.CPUs, err = daemon.ParseCPUs(f.cpus)
	}
	return c, err
}
