package nat

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/bench/traffic"
)

// subject is something to measure: a testbed.Subject, or a test's.
type subject interface {
	Guest() string
	Name() string
	IsPeer() bool
	Start(ctx context.Context, mtu int) (testbed.Path, error)
}

// directions are measured in this order.
var directions = [...]testbed.Direction{testbed.Out, testbed.In}

// cell is a kind of run: a test in a direction.
type cell struct {
	test *traffic.Test
	dir  testbed.Direction
}

// lane is a subject at one MTU, and what was measured of it.
type lane struct {
	subject subject
	mtu     int
	path    testbed.Path // nil if there is none, or none any more
	absent  bool         // it cannot be started at all
	entries map[cell]*report.Entry
	err     error // what is wrong with the subject, if that is vring's fault
}

// newLane starts a subject.
func newLane(ctx context.Context, s subject, mtu int, cells []cell) *lane {
	l := &lane{subject: s, mtu: mtu, entries: make(map[cell]*report.Entry)}
	for _, c := range cells {
		l.entries[c] = &report.Entry{Key: report.Key{
			Test: c.test.Name, MTU: mtu, Direction: c.dir, Guest: s.Guest(), Subject: s.Name(),
		}}
	}
	if err := l.start(ctx); err != nil {
		l.absent = true
		for _, e := range l.entries {
			e.Problem = err.Error()
		}
	}
	return l
}

// start starts the path. What is not installed is no fault.
func (l *lane) start(ctx context.Context) error {
	path, err := l.subject.Start(ctx, l.mtu)
	switch {
	case err == nil:
		l.path = path
		for _, e := range l.entries {
			e.Version = path.Version()
		}
		return nil
	case testbed.NotInstalled(err):
		return fmt.Errorf("not installed: %w", err)
	default:
		l.blame(err)
		return fmt.Errorf("failed: %w", err)
	}
}

// String names the lane.
func (l *lane) String() string { return l.subject.Guest() + " " + l.subject.Name() }

// blame notes an error; that of a peer is a figure and no fault.
func (l *lane) blame(err error) {
	if !l.subject.IsPeer() {
		l.err = errors.Join(l.err, fmt.Errorf("%s: %w", l, err))
	}
}

// ready tells whether a cell can still be measured.
func (l *lane) ready(c cell) bool { return !l.absent && l.entries[c].Problem == "" }

// state tells whether the lane has started.
func (l *lane) state() string {
	if !l.absent {
		return "ready"
	}
	for _, e := range l.entries {
		return e.Problem
	}
	return ""
}

// run measures a cell once and tells what has come of it. After a failure the cell is out of the run, and the other ones
// get a fresh path.
func (l *lane) run(ctx context.Context, c cell, plan traffic.Plan) (outcome string) {
	entry := l.entries[c]
	if l.path == nil {
		if err := l.start(ctx); err != nil {
			l.absent = true
			entry.Problem = err.Error()
			return entry.Problem
		}
	}
	sample, err := l.path.Run(ctx, plan, c.dir)
	switch {
	case err == nil:
		entry.Samples = append(entry.Samples, sample)
		return report.Describe(c.test.Kind, sample)
	case ctx.Err() != nil: // it was cut off, and that is not its fault
		return ctx.Err().Error()
	}
	entry.Problem = "failed: " + err.Error()
	l.blame(fmt.Errorf("%s, %s: %w", c.test.Name, c.dir, err))
	l.stop()
	return entry.Problem
}

// stop ends the path, if there is one.
func (l *lane) stop() {
	if l.path == nil {
		return
	}
	if err := l.path.Close(); err != nil {
		l.blame(err)
	}
	l.path = nil
}

// turns returns the order of a round: in every other one it is reversed, so that nobody always follows the same one.
func turns(lanes []*lane, round int) []*lane {
	order := slices.Clone(lanes)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}
