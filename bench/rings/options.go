package rings

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/go-multierror"
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
	flags := pflag.NewFlagSet("bench rings", pflag.ContinueOnError)
	flags.SetOutput(w)
	flags.BoolVar(&quick, "quick", false, "64-byte frames with huge pages and all features only, three rounds unless --rounds is given")
	flags.BoolVar(&full, "full", false, "every frame size with every combination of pages and features: three times as many rows")
	flags.StringSliceVar(&modes, "mode", nil, "null, source or echo; several are separated by commas (default: all)")
	flags.IntVar(&opt.rounds, "rounds", 5, "rounds; in each, every subject has a turn with each load")
	flags.DurationVar(&opt.length, "length", time.Second, "how long is counted in a turn")
	flags.StringArrayVar(&builds, "vring", nil, "a build of vring, NAME=PATH (repeatable; default: this source tree's)")
	flags.BoolVar(&opt.ceiling, "ceiling", true, "measure the front end's ceiling as well")
	flags.StringVar(&opt.out, "out", program.ResultsFolder("rings", time.Now()), "folder for the results")
	if err := program.ParseFlags(flags, args); err != nil {
		return opt, err
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
	opt.builds, wrongBuild = program.ParseBuilds(builds, []string{nameDPDK, nameCeiling},
		func(name, path string) build { return build{name, path} })
	return opt, errors.Join(wrongMode, wrongBuild, opt.check())
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
