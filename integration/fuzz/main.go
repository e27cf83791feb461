package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

// run fuzzes each target as much as the arguments say, whatever was found in the others.
func run(ctx context.Context, args []string) error {
	want, only, err := parse(args)
	if err != nil {
		return err
	}
	targets, err := findTargets(ctx)
	if err != nil {
		return err
	}
	failed := 0
	for _, t := range targets {
		if !only.MatchString(t.name) {
			continue
		}
		begin := time.Now()
		s := want.spend(ctx, t)
		took := time.Since(begin).Round(100 * time.Millisecond)
		fmt.Printf("%-40s %10d executions in %v, %d findings\n", t, s.executions, took, s.findings)
		if s.findings > 0 {
			failed++
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed > 0 {
		return fmt.Errorf("something was found in %d targets", failed)
	}
	return nil
}

// parse reads AMOUNT [PATTERN].
func parse(args []string) (amount, *regexp.Regexp, error) {
	if len(args) < 1 || len(args) > 2 {
		return amount{}, nil, errors.New("usage: fuzz EXECUTIONSx|DURATION [PATTERN]")
	}
	a, err := parseAmount(args[0])
	if err != nil {
		return a, nil, err
	}
	only, err := regexp.Compile(strings.Join(args[1:], ""))
	return a, only, err
}

// amount is how much a target is fuzzed: so many executions, or so long.
type amount struct {
	executions int
	time       time.Duration
}

func parseAmount(text string) (amount, error) {
	if count, ok := strings.CutSuffix(text, "x"); ok {
		n, err := strconv.Atoi(count)
		if err == nil && n < 1 {
			err = fmt.Errorf("%q: at least one execution is needed", text)
		}
		return amount{executions: n}, err
	}
	d, err := time.ParseDuration(text)
	return amount{time: d}, err
}

// spent is what has come of fuzzing a target.
type spent struct{ executions, findings int }

// spend fuzzes one target. What was found is printed at once. It ends the target if it is found again without fuzzing;
// if not, it may have been the machine's fault (a worker that gets no processor for ten seconds is taken for hung), and
// the rest of the time is spent all the same.
func (a amount) spend(ctx context.Context, t target) (s spent) {
	deadline := time.Now().Add(a.time) // past, if a number of executions is wanted: one round
	n := a.executions
	if n == 0 {
		n = firstRound
	}
	for ctx.Err() == nil {
		begin := time.Now()
		err := t.fuzz(ctx, n)
		switch {
		case ctx.Err() != nil:
			return s
		case err == nil:
			s.executions += n
		default:
			s.findings++
			fmt.Printf("%v: %v\n", t, err)
			if err := t.repeat(ctx); err != nil {
				fmt.Printf("%v, without fuzzing: %v\n", t, err)
				return s
			}
			fmt.Printf("%v: it did not happen again without fuzzing\n", t)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return s
		}
		n = nextRound(n, time.Since(begin), left)
	}
	return s
}

// A round is of so many executions as take roundTime, each of which go test begins with all inputs that it knows.
const (
	firstRound = 1000
	roundTime  = 2 * time.Minute
)

// nextRound is the length of a round in the time left, after one of n executions that took so long.
func nextRound(n int, took, left time.Duration) int {
	next := float64(n) * min(roundTime, left).Seconds() / max(took.Seconds(), 0.001)
	return int(min(max(next, 100), 100*float64(n)))
}

// fuzz runs the target n times.
func (t target) fuzz(ctx context.Context, n int) error {
	return t.test(ctx, "-run", "^$", "-fuzz", "^"+t.name+"$",
		"-fuzztime", strconv.Itoa(n)+"x", "-fuzzminimizetime", "20x", "-timeout", "0")
}

// repeat runs the target's seeds, those that fuzzing has just found among them.
func (t target) repeat(ctx context.Context) error {
	return t.test(ctx, "-count", "1", "-run", "^"+t.name+"$", "-timeout", "5m")
}

func (t target) test(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "."}, args...)...)
	cmd.Dir = t.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
