package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/integration/guest"
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
	flags := pflag.NewFlagSet("taps", pflag.ContinueOnError)
	flags.SetOutput(w)
	flags.StringSliceVar(&only, "only", nil, "frames, qemu or uml; several are separated by commas (default: all)")
	flags.IntVar(&opt.rounds, "rounds", 5, "rounds; in each, every subject has a turn with each load")
	flags.DurationVar(&opt.length, "length", 2*time.Second, "how long a turn is measured")
	flags.StringArrayVar(&builds, "vring", nil, "a build of vring, NAME=PATH (repeatable; default: this source tree's)")
	flags.StringVar(&opt.out, "out", defaultFolder(time.Now()), "folder for the results")
	if err := flags.Parse(args); err != nil {
		return opt, err
	}
	if flags.NArg() > 0 {
		return opt, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	var wrongContest, wrongBuild error
	opt.only, wrongContest = parseContests(only)
	opt.builds, wrongBuild = parseBuilds(builds)
	return opt, errors.Join(wrongContest, wrongBuild, opt.check())
}

func defaultFolder(now time.Time) string {
	return filepath.Join(guest.ProjectRoot(), "bench", "results", now.UTC().Format("20060102-150405-taps"))
}

// parseContests returns the named contests, all of them if there are no names.
func parseContests(names []string) ([]contest, error) {
	if len(names) == 0 {
		return contests[:], nil
	}
	var chosen []contest
	for _, name := range names {
		if !slices.Contains(contests[:], contest(name)) {
			return nil, fmt.Errorf("--only %q: want frames, qemu or uml", name)
		}
		chosen = append(chosen, contest(name))
	}
	return chosen, nil
}

// parseBuilds reads NAME=PATH. Names must differ: they are what the rows are told apart by.
func parseBuilds(texts []string) ([]build, error) {
	taken := []string{nameDPDK, nameQEMU, nameVeth}
	var builds []build
	for _, text := range texts {
		name, path, found := strings.Cut(text, "=")
		if !found || name == "" || path == "" {
			return nil, fmt.Errorf("--vring %q is not NAME=PATH", text)
		}
		if slices.Contains(taken, name) {
			return nil, fmt.Errorf("--vring %q: the name %s is taken", text, name)
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		taken = append(taken, name)
		builds = append(builds, build{name, absolute})
	}
	return builds, nil
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
