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
	targets, err := findTargets(ctx, "./...")
	if err != nil {
		return err
	}
	var failed []error
	for _, t := range targets {
		if !only.MatchString(t.name) {
			continue
		}
		begin := time.Now()
		execs, err := want.spend(ctx, t)
		took := time.Since(begin).Round(100 * time.Millisecond)
		fmt.Printf("%-40s %10d executions in %v\n", t, execs, took)
		if err != nil {
			failed = append(failed, fmt.Errorf("%v: %w", t, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(failed...)
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

// spend fuzzes one target, and returns how many executions that were.
func (a amount) spend(ctx context.Context, t target) (executions int, err error) {
	if a.executions > 0 {
		return a.executions, t.fuzz(ctx, a.executions)
	}
	deadline := time.Now().Add(a.time)
	for n := firstRound; ; {
		begin := time.Now()
		if err := t.fuzz(ctx, n); err != nil {
			return executions, err
		}
		executions += n
		left := time.Until(deadline)
		if left <= 0 {
			return executions, nil
		}
		n = nextRound(n, time.Since(begin), left)
	}
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
	cmd := exec.CommandContext(ctx, "go", "test", t.pkg, "-run", "^$", "-fuzz", "^"+t.name+"$",
		"-fuzztime", strconv.Itoa(n)+"x", "-fuzzminimizetime", "20x", "-timeout", "0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
