package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
)

// directions are measured in this order.
var directions = [...]lab.Direction{lab.Out, lab.In}

// runner is a subject in a run, and what was measured of it.
type runner struct {
	name    string
	version string
	path    lab.Path // nil if there is none, or none any more
	problem string   // why, for the report
	err     error    // what is wrong with the subject; nil if it is just not installed
	samples map[lab.Direction][]measure.Sample
}

// start starts a subject.
func start(ctx context.Context, subject lab.Subject, mtu int) *runner {
	r := &runner{name: subject.Name(), samples: make(map[lab.Direction][]measure.Sample)}
	path, err := subject.Start(ctx, mtu)
	switch {
	case err == nil:
		r.path, r.version = path, path.Version()
	case lab.NotInstalled(err):
		r.problem = fmt.Sprintf("not installed: %v", err)
	default:
		r.fail(fmt.Errorf("%s: %w", r.name, err))
	}
	return r
}

// fail notes that the subject is of no use any more.
func (r *runner) fail(err error) {
	r.err = errors.Join(r.err, err)
	r.problem = "failed: " + r.err.Error()
}

// transfer measures one stream. A subject that fails is out of the run.
func (r *runner) transfer(ctx context.Context, dir lab.Direction, d time.Duration) {
	sample, err := r.path.Transfer(ctx, dir, d)
	if err != nil {
		r.fail(fmt.Errorf("%s, %s: %w", r.name, dir, err))
		r.stop()
		return
	}
	r.samples[dir] = append(r.samples[dir], sample)
}

// last describes the last stream.
func (r *runner) last(dir lab.Direction) string {
	if r.path == nil {
		return r.problem
	}
	samples := r.samples[dir]
	return fmt.Sprintf("%.2f Gbit/s", samples[len(samples)-1].Rate())
}

func (r *runner) entry(mtu int, dir lab.Direction) report.Entry {
	return report.Entry{
		MTU: mtu, Direction: dir, Subject: r.name, Version: r.version, Problem: r.problem, Samples: r.samples[dir],
	}
}

// stop ends the path, if there is one, and returns what was wrong with the subject.
func (r *runner) stop() error {
	if r.path != nil {
		if err := r.path.Close(); err != nil {
			r.fail(fmt.Errorf("%s: %w", r.name, err))
		}
		r.path = nil
	}
	return r.err
}

// turns returns the order of a round: in every other one it is reversed, so that nobody always follows the same one.
func turns(runners []*runner, round int) []*runner {
	order := slices.Clone(runners)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}
