package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/integration/lab/userland"
)

// maxGuests is how many addresses the default network is used for.
const maxGuests = 16

// options are the command line.
type options struct {
	time     time.Duration // of unrest
	guests   int
	callers  int // for each guest, at the same time
	seed     uint64
	largest  int64         // bytes of one direction of a conversation
	calm     time.Duration // mean time between two things that are done to a guest
	progress time.Duration // between two lines
	verbose  bool
	userland userland.Userland // the generation of User-mode Linux
}

func parseOptions(args []string, w io.Writer) (options, error) {
	var o options
	f := pflag.NewFlagSet("soak", pflag.ContinueOnError)
	f.SetOutput(w)
	f.SortFlags = false
	f.DurationVar(&o.time, "time", time.Minute, "how long")
	f.IntVar(&o.guests, "guests", 2, "how many guests one vring serves")
	f.IntVar(&o.callers, "callers", 4, "conversations of each guest at the same time")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all that is random")
	f.Int64Var(&o.largest, "largest", 8<<20, "most bytes of one direction of a conversation")
	f.DurationVar(&o.calm, "calm", 20*time.Second, "mean time between two things that are done to a guest")
	f.DurationVar(&o.progress, "progress", 30*time.Second, "time between two lines of progress")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell what is done to guests")
	uml := f.String("uml", "6.1", "the version of User-mode Linux: 6.1 or 7")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	userlands := map[string]userland.Userland{"6.1": userland.Bookworm, "7": userland.Forky}
	var known bool
	if o.userland, known = userlands[*uml]; !known {
		return o, fmt.Errorf("--uml %s: there are 6.1 and 7", *uml)
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("what is %q?", f.Arg(0))
	case o.guests < 1 || o.guests > maxGuests:
		return o, fmt.Errorf("%d guests: between 1 and %d are possible", o.guests, maxGuests)
	case o.callers < 1 || o.largest < 1 || o.calm <= 0 || o.progress <= 0:
		return o, errors.New("callers, largest, calm and progress must be above 0")
	}
	return o, nil
}
