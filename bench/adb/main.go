package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/integration/guest"
)

// maxRounds bounds the length of a run: a round takes some twenty seconds.
const maxRounds = 100

func main() { program.Main("bench/adb", command) }

// command runs the benchmark as the arguments say.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	f := pflag.NewFlagSet("bench/adb", pflag.ContinueOnError)
	f.SetOutput(stderr)
	rounds := f.Int("rounds", 3, "rounds; each boots a guest and measures everything both ways")
	guests := f.IntSlice("guests", []int{4, 8},
		"numbers of guests at once, behind one adb server, to measure in each round after one guest")
	out := f.String("out", defaultFolder(time.Now()), "folder for the results")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || *rounds < 1 || *rounds > maxRounds {
		return fmt.Errorf("no arguments, and 1 to %d rounds", maxRounds)
	}
	for _, n := range *guests {
		if n < 2 || n > maxGuests {
			return fmt.Errorf("--guests %d: 2 to %d; one guest is always measured", n, maxGuests)
		}
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
		Benchmark: "adb", Time: time.Now(), Command: strings.TrimSpace("cd bench && go run ./adb " + strings.Join(args, " ")),
		Machine: machine.Describe(ctx, guest.ProjectRoot()), ADB: tools.version,
	}
	failed := measureAll(ctx, tools, *rounds, *guests, d, stderr)
	return errors.Join(failed, d.WriteMarkdown(stdout), report.WriteFiles(d, *out, "result"))
}

// maxGuests bounds the memory of a run: each guest has 256 MiB.
const maxGuests = 16

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

func defaultFolder(now time.Time) string {
	return filepath.Join(guest.ProjectRoot(), "bench", "results", now.UTC().Format("20060102-150405-adb"))
}
