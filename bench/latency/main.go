package latency

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/guest"
)

// options are the command line.
type options struct {
	frames int
	rounds int
	gap    time.Duration
	polls  []int // microseconds, of each vring
	vring  string
	out    string
}

// maxFrames bounds a run.
const maxFrames = 10_000_000

func parseOptions(args []string, w io.Writer) (options, error) {
	var opt options
	flags := pflag.NewFlagSet("bench latency", pflag.ContinueOnError)
	flags.SetOutput(w)
	flags.IntVar(&opt.frames, "frames", 20_000, "round trips in a turn of a subject")
	flags.IntVar(&opt.rounds, "rounds", 3, "rounds; in each, every subject has a turn")
	flags.DurationVar(&opt.gap, "gap", 0, "how long the driver rests between two frames")
	flags.IntSliceVar(&opt.polls, "poll-us", []int{0, 50}, "bounds of vring's polling, a row for each; 0 is none")
	flags.StringVar(&opt.vring, "vring", "", "the build of vring (default: this source tree's)")
	flags.StringVar(&opt.out, "out", program.ResultsFolder("latency", time.Now()), "folder for the results")
	if err := program.ParseFlags(flags, args); err != nil {
		return opt, err
	}
	switch {
	case opt.frames < 1 || opt.frames > maxFrames || opt.rounds < 1 || opt.rounds > 1000:
		return opt, fmt.Errorf("--frames must be 1 to %d, --rounds 1 to 1000", maxFrames)
	case opt.gap < 0 || opt.gap > time.Second:
		return opt, errors.New("--gap must be 0 to 1s")
	}
	return opt, nil
}

// Run runs the benchmark as the arguments say, see program.Command.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	opt, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vring-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if opt.vring == "" {
		opt.vring = filepath.Join(dir, "vring")
		if err := testbed.Build(ctx, "./cmd/vring", opt.vring); err != nil {
			return err
		}
	}
	d := document{
		Benchmark: "Round trip of a frame, from kick to interrupt", Time: time.Now(),
		Machine: machine.Describe(ctx, guest.ProjectRoot()), Rounds: opt.rounds, Frames: opt.frames, Gap: opt.gap,
	}
	for round := range opt.rounds {
		for i, s := range opt.subjects() {
			times, err := s.measure(ctx, opt)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			d.add(i, s.name, times)
			fmt.Fprintf(stderr, "round %d of %d, %s: %v\n", round+1, opt.rounds, s.name, percentile(times, 50))
		}
	}
	d.summarize()
	return errors.Join(d.WriteMarkdown(stdout), report.WriteFiles(&d, opt.out, "latency"))
}

func (o options) subjects() []subject {
	var all []subject
	for _, poll := range o.polls {
		name := "vring, no polling"
		if poll > 0 {
			name = "vring, polling up to " + strconv.Itoa(poll) + " µs"
		}
		all = append(all, subject{name, vring(o.vring, poll)})
	}
	return append(all, subject{"net_vhost, always polling", netVhost})
}
