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

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/integration/guest"
)

// Limits of what may be asked for, so that every run ends.
const (
	maxRounds = 1000
	maxLength = 5 * time.Minute
	minMTU    = 1280
	maxMTU    = 65535
)

// options are the command line.
type options struct {
	rounds int
	length time.Duration
	mtus   []int
	vring  []lab.Vring // none: the source tree's
	out    string
}

// parseOptions reads the command line. Help goes to w.
func parseOptions(args []string, w io.Writer) (options, error) {
	var opt options
	var builds []string
	flags := pflag.NewFlagSet("throughput", pflag.ContinueOnError)
	flags.SetOutput(w)
	flags.IntVar(&opt.rounds, "rounds", 5, "rounds; in each, every subject sends one stream in each direction")
	flags.DurationVar(&opt.length, "length", 3*time.Second, "how long each stream sends")
	flags.IntSliceVar(&opt.mtus, "mtu", []int{1500}, "MTU of the guest; several make several tables' worth of rows")
	flags.StringArrayVar(&builds, "vring", nil, "a build of vring, NAME=PATH (repeatable; default: this source tree's)")
	flags.StringVar(&opt.out, "out", defaultFolder(time.Now()), "folder for the results")
	if err := flags.Parse(args); err != nil {
		return opt, err
	}
	if flags.NArg() > 0 {
		return opt, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	var err error
	opt.vring, err = parseBuilds(builds)
	return opt, errors.Join(err, opt.check())
}

func defaultFolder(now time.Time) string {
	return filepath.Join(guest.ProjectRoot(), ".cache", "bench", now.UTC().Format("throughput-20060102-150405"))
}

// parseBuilds reads NAME=PATH. Names must differ: they are what the rows are told apart by.
func parseBuilds(texts []string) ([]lab.Vring, error) {
	taken := []string{lab.Loopback{}.Name(), lab.Passt{}.Name()}
	var builds []lab.Vring
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
		builds = append(builds, lab.Vring{Label: name, Path: absolute})
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
	for _, mtu := range o.mtus {
		if mtu < minMTU || mtu > maxMTU {
			all = multierror.Append(all, fmt.Errorf("--mtu %d is not between %d and %d", mtu, minMTU, maxMTU))
		}
	}
	return all.ErrorOrNil()
}
