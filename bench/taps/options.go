package taps

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/program"
)

// Limits of what may be asked for, so that every run ends.
const (
	maxRounds = 1000
	maxLength = time.Minute
)

// options are the command line.
type options struct {
	rounds int
	length time.Duration
	only   []contest
	builds []build // of vring; none: the source tree's
	out    string
}

// parseOptions reads the command line. Help goes to w.
func parseOptions(args []string, w io.Writer) (options, error) {
	var opt options
	var only, builds []string
	flags := pflag.NewFlagSet("bench taps", pflag.ContinueOnError)
	flags.SetOutput(w)
	flags.StringSliceVar(&only, "only", nil, "frames, qemu, uml or pair; several are separated by commas (default: all)")
	flags.IntVar(&opt.rounds, "rounds", 5, "rounds; in each, every subject has a turn with each load")
	flags.DurationVar(&opt.length, "length", 2*time.Second, "how long a turn is measured")
	flags.StringArrayVar(&builds, "vring", nil, "a build of vring, NAME=PATH (repeatable; default: this source tree's)")
	flags.StringVar(&opt.out, "out", program.ResultsFolder("taps", time.Now()), "folder for the results")
	if err := program.ParseFlags(flags, args); err != nil {
		return opt, err
	}
	var wrongContest, wrongBuild error
	opt.only, wrongContest = parseContests(only)
	opt.builds, wrongBuild = program.ParseBuilds(builds, []string{nameDPDK, nameQEMU, nameVeth, nameBridge},
		func(name, path string) build { return build{name, path} })
	return opt, errors.Join(wrongContest, wrongBuild, opt.check())
}

// parseContests returns the named contests, all of them if there are no names.
func parseContests(names []string) ([]contest, error) {
	if len(names) == 0 {
		return contests[:], nil
	}
	var chosen []contest
	for _, name := range names {
		if !slices.Contains(contests[:], contest(name)) {
			return nil, fmt.Errorf("--only %q: want frames, qemu, uml or pair", name)
		}
		chosen = append(chosen, contest(name))
	}
	return chosen, nil
}

// check reports all values that are out of range.
func (o options) check() error {
	var faults []error
	if o.rounds < 1 || o.rounds > maxRounds {
		faults = append(faults, fmt.Errorf("--rounds %d is not between 1 and %d", o.rounds, maxRounds))
	}
	if o.length < time.Second || o.length > maxLength {
		faults = append(faults, fmt.Errorf("--length %v is not between 1s and %v", o.length, maxLength))
	}
	return errors.Join(faults...)
}
