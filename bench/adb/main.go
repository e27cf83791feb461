package adb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/integration/lab/guest"
)

const (
	// maxRounds bounds the length of a run: a round takes some twenty seconds.
	maxRounds = 100
	// maxGuests bounds the memory of a run: each guest has 256 MiB.
	maxGuests = 16
)

// options are the command line.
type options struct {
	rounds int
	guests []int // numbers of guests at once
	out    string
}

func parseOptions(args []string, w io.Writer) (options, error) {
	var opt options
	f := pflag.NewFlagSet("bench adb", pflag.ContinueOnError)
	f.SetOutput(w)
	f.IntVar(&opt.rounds, "rounds", 3, "rounds; each boots a guest and measures everything both ways")
	f.IntSliceVar(&opt.guests, "guests", []int{4, 8},
		"numbers of guests at once, behind one adb server, to measure in each round after one guest")
	f.StringVar(&opt.out, "out", program.ResultsFolder("adb", time.Now()), "folder for the results")
	if err := program.ParseFlags(f, args); err != nil {
		return opt, err
	}
	if opt.rounds < 1 || opt.rounds > maxRounds {
		return opt, fmt.Errorf("--rounds %d: 1 to %d", opt.rounds, maxRounds)
	}
	for _, n := range opt.guests {
		if n < 2 || n > maxGuests {
			return opt, fmt.Errorf("--guests %d: 2 to %d; one guest is always measured", n, maxGuests)
		}
	}
	return opt, nil
}

// Run runs the benchmark as the arguments say, see program.Command.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	opt, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vring-adb") // short: a socket's path has little room
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tools, err := prepare(ctx, dir)
	if err != nil {
		return err
	}
	d := &document{
		Benchmark: "adb", Time: time.Now(), Command: strings.TrimSpace("cd bench && go run . adb " + strings.Join(args, " ")),
		Machine: machine.Describe(ctx, guest.ProjectRoot()), ADB: tools.version,
	}
	failed := measureAll(ctx, tools, opt.rounds, opt.guests, d, stderr)
	return errors.Join(failed, d.WriteMarkdown(stdout), report.WriteFiles(d, opt.out, "result"))
}

// measureAll runs all rounds; those before a failure count.
func measureAll(ctx context.Context, t tools, rounds int, guests []int, d *document, progress io.Writer) error {
	for i := range rounds {
		r := round{tools: t, number: i, document: d, progress: progress}
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		for _, n := range guests {
			if err := (&crowd{round: r}).run(ctx, n); err != nil {
				return fmt.Errorf("round %d: %w", i+1, err)
			}
		}
		d.Rounds = i + 1
	}
	return nil
}
