package diff

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"
)

const (
	maxRounds = 1000
	maxTime   = 24 * time.Hour
)

// share is a value in percent on the command line: "5%".
type share float64

func (s *share) String() string { return strconv.FormatFloat(100*float64(*s), 'f', -1, 64) + "%" }
func (s *share) Type() string   { return "percent" }

func (s *share) Set(text string) error {
	number, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || number <= 0 || number > 100 {
		return fmt.Errorf("%q is not a percentage above 0, such as 5%%", text)
	}
	*s = share(number / 100)
	return nil
}

// options are the command line.
type options struct {
	old, new string
	limit    share // of the interval's width
	worse    share // that a row may be
	rounds   int
	time     time.Duration
	length   time.Duration // of a sample
	rows     []string      // those whose name contains one of these; empty for all
	json     string
}

const usage = `Tells whether one state of the source tree is slower than another: cd bench && go run . diff [flags] OLD NEW

OLD and NEW are git refs or directories of checkouts. Both are built and take turns at the same work, until the ratio of the
time that they need, NEW to OLD, is known well enough. A ratio of 1.05 means that NEW needs 5 % more time.

  go run . diff HEAD~5 HEAD                       two commits
  go run . diff main ..                           main, and this checkout with what is not committed
  go run . diff --rows "udp,tcp large" v1 v2      some rows only

Ctrl-C prints what is known so far. Exit status: 0 no row is slower, 1 a row is slower by more than --worse, 2 that is not
certain for some row, 3 something went wrong. What the ratios are of, and which samples are thrown out: go doc ./diff

Flags:
`

// parseOptions reads the command line. Help goes to w.
func parseOptions(args []string, w io.Writer) (options, error) {
	o := options{limit: 0.05, worse: 0.03}
	f := pflag.NewFlagSet("bench diff", pflag.ContinueOnError)
	f.SetOutput(w)
	f.SortFlags = false
	f.StringSliceVar(&o.rows, "rows", nil, "only rows whose name contains one of these; several are separated by commas")
	f.Var(&o.limit, "limit", "how wide the 95 % interval of a ratio may be at the end")
	f.Var(&o.worse, "worse", "how much slower NEW may be, for exit status 0")
	f.IntVar(&o.rounds, "rounds", 60, "rounds at most of a row")
	f.DurationVar(&o.time, "time", 5*time.Minute, "time at most for all rows, without building")
	f.DurationVar(&o.length, "length", 100*time.Millisecond, "of a sample")
	f.StringVar(&o.json, "json", "", "a file for everything that was measured, as JSON; - for standard output in place of the table")
	f.Usage = func() { fmt.Fprintf(w, "%s%s", usage, f.FlagUsages()) }
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() != 2 {
		return o, fmt.Errorf("%d arguments in place of OLD and NEW; see --help", f.NArg())
	}
	o.old, o.new = f.Arg(0), f.Arg(1)
	return o, o.check()
}

// check reports all values that are out of range.
func (o options) check() error {
	var all *multierror.Error
	if o.rounds < 1 || o.rounds > maxRounds {
		all = multierror.Append(all, fmt.Errorf("--rounds %d is not between 1 and %d", o.rounds, maxRounds))
	}
	if o.time <= 0 || o.time > maxTime {
		all = multierror.Append(all, fmt.Errorf("--time %v is not above 0 and up to %v", o.time, maxTime))
	}
	if o.length < 10*time.Millisecond || o.length > 10*time.Second {
		all = multierror.Append(all, fmt.Errorf("--length %v is not between 10ms and 10s", o.length))
	}
	return all.ErrorOrNil()
}

// wants reports whether a row was asked for.
func (o options) wants(name string) bool {
	return len(o.rows) == 0 || slices.ContainsFunc(o.rows, func(part string) bool { return strings.Contains(name, part) })
}
