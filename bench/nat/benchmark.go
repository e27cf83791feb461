package nat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/bench/traffic"
	"github.com/vringnet/vring/integration/lab/guest"
)

// errInterrupted is how an interrupted run ends.
var errInterrupted = errors.New("interrupted; what was measured before is kept")

// benchmark is one run.
type benchmark struct {
	options
	command  string // for the record
	progress io.Writer
	dir      string // for what is built
}

// run measures and reports. What was measured is reported even if a subject has failed, or if ctx has ended.
func (b benchmark) run(ctx context.Context, stdout io.Writer) error {
	subjects, err := b.subjects(ctx)
	if err != nil {
		return err
	}
	result := b.newResult(ctx)
	failed := b.measureAll(ctx, subjects, &result)
	if ctx.Err() != nil {
		failed = append(failed, errInterrupted)
		result.Interrupted = true
	}
	failed = append(failed, result.WriteMarkdown(stdout), result.WriteFiles(b.out))
	b.say("results are in %s", b.out)
	return errors.Join(failed...)
}

// newResult returns a document without rows.
func (b benchmark) newResult(ctx context.Context) report.Result {
	first := "vring"
	if len(b.vring) > 0 {
		first = b.vring[0].Name()
	}
	return report.Result{
		Time:     time.Now(),
		Command:  b.command,
		Machine:  machine.Describe(ctx, guest.ProjectRoot()),
		Settings: report.Settings{Rounds: b.rounds, Length: b.length, MTUs: b.mtus},
		Baseline: testbed.Loopback{}.Name(),
		First:    first,
	}
}

// measureAll runs everything at every MTU, and writes the result after every round. It returns the faults of vring.
func (b benchmark) measureAll(ctx context.Context, subjects []subject, result *report.Result) (failed []error) {
	var before []report.Entry
	for _, mtu := range b.mtus {
		entries, err := b.measure(ctx, subjects, mtu, func(entries []report.Entry) error {
			result.Rows = report.Rows(append(before[:len(before):len(before)], entries...), result.Baseline, result.First)
			return result.WriteFiles(b.out)
		})
		failed = append(failed, err)
		before = append(before, entries...)
		if ctx.Err() != nil {
			break
		}
	}
	result.Rows = report.Rows(before, result.Baseline, result.First)
	return failed
}

// cells returns what is measured at an MTU: only streams depend on it.
func (b benchmark) cells(mtu int) []cell {
	var cells []cell
	for _, test := range b.tests {
		if test.Kind != traffic.Bytes && mtu != b.mtus[0] {
			continue
		}
		for _, dir := range directions {
			cells = append(cells, cell{test, dir})
		}
	}
	return cells
}

// measure runs all rounds at one MTU. keep gets the entries after every round.
func (b benchmark) measure(
	ctx context.Context, subjects []subject, mtu int, keep func([]report.Entry) error,
) ([]report.Entry, error) {
	cells := b.cells(mtu)
	lanes := b.start(ctx, subjects, mtu, cells)
	clock := newClock(b.rounds * len(cells) * len(lanes))
	var failed []error
	for round := 0; round < b.rounds && ctx.Err() == nil; round++ {
		for _, c := range cells {
			b.round(ctx, lanes, c, round, clock)
		}
		failed = append(failed, keep(entries(lanes, cells)))
	}
	for _, l := range lanes {
		l.stop()
		failed = append(failed, l.err)
	}
	return entries(lanes, cells), errors.Join(failed...)
}

// start starts all subjects.
func (b benchmark) start(ctx context.Context, subjects []subject, mtu int, cells []cell) []*lane {
	var lanes []*lane
	for _, s := range subjects {
		if ctx.Err() != nil {
			break
		}
		l := newLane(ctx, s, mtu, cells)
		b.say("MTU %d: %s is %s", mtu, l, l.state())
		lanes = append(lanes, l)
	}
	return lanes
}

// round runs one cell once for every lane.
func (b benchmark) round(ctx context.Context, lanes []*lane, c cell, round int, clock *clock) {
	plan := traffic.Plan{Test: c.test, Length: b.length}
	if c.test.Volume {
		plan.Length, plan.Bytes = 0, b.volume
	}
	for _, l := range turns(lanes, round) {
		clock.tick()
		if !l.ready(c) {
			continue
		}
		outcome := l.run(ctx, c, plan)
		if ctx.Err() != nil {
			return
		}
		b.say("MTU %d, round %d of %d, %s, %s, %s: %s (%s left)",
			l.mtu, round+1, b.rounds, c.test.Name, c.dir, l, outcome, clock.left())
	}
}

// entries returns what was measured, sorted by test, direction and subject.
func entries(lanes []*lane, cells []cell) []report.Entry {
	var all []report.Entry
	for _, c := range cells {
		for _, l := range lanes {
			all = append(all, *l.entries[c])
		}
	}
	return all
}

func (b benchmark) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }
