package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
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
	rounds  int
	length  time.Duration
	loads   []load
	builds  []build // of vring; none: the source tree's
	ceiling bool
	out     string
}

// build is a build of vring.
type build struct {
	label string
	path  string
}

// parseOptions reads the command line. Help goes to w.
func parseOptions(args []string, w io.Writer) (options, error) {
	var opt options
	var builds, modes []string
	var quick, full bool
	flags := pflag.NewFlagSet("rings", pflag.ContinueOnError)
	flags.SetOutput(w)
	flags.BoolVar(&quick, "quick", false, "64-byte frames with huge pages and all features only, three rounds unless --rounds is given")
	flags.BoolVar(&full, "full", false, "every frame size with every combination of pages and features: three times as many rows")
	flags.StringSliceVar(&modes, "mode", nil, "null, source or echo; several are separated by commas (default: all)")
	flags.IntVar(&opt.rounds, "rounds", 5, "rounds; in each, every subject has a turn with each load")
	flags.DurationVar(&opt.length, "length", time.Second, "how long is counted in a turn")
	flags.StringArrayVar(&builds, "vring", nil, "a build of vring, NAME=PATH (repeatable; default: this source tree's)")
	flags.BoolVar(&opt.ceiling, "ceiling", true, "measure the front end's ceiling as well")
	flags.StringVar(&opt.out, "out", defaultFolder(time.Now()), "folder for the results")
	if err := flags.Parse(args); err != nil {
		return opt, err
	}
	if flags.NArg() > 0 {
		return opt, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if quick && !flags.Changed("rounds") {
		opt.rounds = 3
	}
	only, wrongMode := parseModes(modes)
	if quick && full {
		return opt, errors.New("--quick and --full exclude each other")
	}
	opt.loads = matrix(settings(quick, full), only)
	var wrongBuild error
	opt.builds, wrongBuild = parseBuilds(builds)
	return opt, errors.Join(wrongMode, wrongBuild, opt.check())
}

func defaultFolder(now time.Time) string {
	return filepath.Join(guest.ProjectRoot(), "bench", "results", now.UTC().Format("20060102-150405-rings"))
}

// parseBuilds reads NAME=PATH. Names must differ: they are what the rows are told apart by.
func parseBuilds(texts []string) ([]build, error) {
	taken := []string{nameDPDK, nameCeiling}
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
	var all *multierror.Error
	if o.rounds < 1 || o.rounds > maxRounds {
		all = multierror.Append(all, fmt.Errorf("--rounds %d is not between 1 and %d", o.rounds, maxRounds))
	}
	if o.length <= 0 || o.length > maxLength {
		all = multierror.Append(all, fmt.Errorf("--length %v is not above 0 and up to %v", o.length, maxLength))
	}
	return all.ErrorOrNil()
}
