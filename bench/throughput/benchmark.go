package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/integration/guest"
)

// benchmark is one run.
type benchmark struct {
	options
	progress io.Writer
	dir      string // for what is built
}

// run measures and reports. What was measured is reported even if a subject has failed.
func (b benchmark) run(ctx context.Context, stdout io.Writer) error {
	subjects, err := b.subjects(ctx)
	if err != nil {
		return err
	}
	result := report.Result{
		Benchmark: "TCP throughput, one stream",
		Time:      time.Now(),
		Machine:   machine.Describe(ctx, guest.ProjectRoot()),
		Settings:  report.Settings{Rounds: b.rounds, Length: b.length, MTUs: b.mtus},
		Baseline:  subjects[0].Name(),
	}
	var failed []error
	var entries []report.Entry
	for _, mtu := range b.mtus {
		measured, err := b.measure(ctx, subjects, mtu)
		entries, failed = append(entries, measured...), append(failed, err)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	if names := report.MeasuredBackEnds(entries, result.Baseline); len(names) > 1 {
		result.First = names[0]
	}
	result.Rows = report.Rows(entries, result.Baseline, result.First)
	failed = append(failed, result.WriteMarkdown(stdout), report.WriteFiles(result, b.out, "throughput"))
	b.say("results are in %s", b.out)
	return errors.Join(failed...)
}

// subjects returns what is compared: the loopback, the builds of vring, the peers.
func (b benchmark) subjects(ctx context.Context) ([]lab.Subject, error) {
	builds := b.vring
	if len(builds) == 0 {
		b.say("building vring")
		own := lab.Vring{Label: "vring", Path: filepath.Join(b.dir, "vring")}
		if err := lab.Build(ctx, "./cmd/vring", own.Path); err != nil {
			return nil, err
		}
		builds = append(builds, own)
	}
	image := sync.OnceValues(func() (string, error) { return lab.BuildImage(ctx, b.dir) })
	subjects := []lab.Subject{lab.Loopback{}}
	for _, build := range builds {
		subjects = append(subjects, lab.Guest{BackEnd: build, Image: image})
	}
	return append(subjects, lab.Guest{BackEnd: lab.Passt{}, Image: image}), nil
}

// measure runs all rounds at one MTU. An error is that of a subject; the entries tell it too.
func (b benchmark) measure(ctx context.Context, subjects []lab.Subject, mtu int) ([]report.Entry, error) {
	b.say("MTU %d: starting", mtu)
	runners := make([]*runner, len(subjects))
	for i, subject := range subjects {
		runners[i] = start(ctx, subject, mtu)
	}
	for round := range b.rounds {
		for _, dir := range directions {
			for _, r := range turns(runners, round) {
				if ctx.Err() != nil || r.path == nil {
					continue
				}
				r.transfer(ctx, dir, b.length)
				if ctx.Err() == nil { // else it was cut off
					b.say("MTU %d, round %d of %d, %s, %s: %s", mtu, round+1, b.rounds, dir, r.name, r.last(dir))
				}
			}
		}
	}
	var entries []report.Entry
	var failed []error
	for _, dir := range directions {
		for _, r := range runners {
			entries = append(entries, r.entry(mtu, dir))
		}
	}
	for _, r := range runners {
		failed = append(failed, r.stop())
	}
	return entries, errors.Join(failed...)
}

func (b benchmark) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }
