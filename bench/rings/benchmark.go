package rings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/guest"
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
	d := document{
		Benchmark: "Frames per second through split virtqueues",
		Time:      time.Now(),
		Machine:   machine.Describe(ctx, guest.ProjectRoot()),
		Rounds:    b.rounds,
		Length:    b.length,
	}
	restore, noHugePages := setAsideHugePages()
	for _, l := range b.loads {
		problem := ""
		if l.HugePages && noHugePages != nil {
			problem = noHugePages.Error()
		}
		d.entries = append(d.entries, b.measure(ctx, subjects, l, problem)...)
		if ctx.Err() != nil {
			return errors.Join(errors.New("interrupted"), restore())
		}
	}
	d.compare()
	err = errors.Join(restore(), d.WriteMarkdown(stdout), report.WriteFiles(&d, b.out, "rings"))
	b.say("results are in %s", b.out)
	return errors.Join(err, d.failure())
}

// subjects returns what is compared: DPDK, the builds of vring, the ceiling.
func (b benchmark) subjects(ctx context.Context) ([]subject, error) {
	builds := b.builds
	if len(builds) == 0 {
		b.say("building vring")
		own := build{"vring", filepath.Join(b.dir, "vring")}
		if err := testbed.Build(ctx, "./cmd/vring", own.path); err != nil {
			return nil, err
		}
		builds = append(builds, own)
	}
	subjects := []subject{dpdk{}}
	for _, build := range builds {
		subjects = append(subjects, build)
	}
	if b.ceiling {
		subjects = append(subjects, limit{})
	}
	return subjects, nil
}

// measure runs all rounds with one load, unless there is a problem with it.
func (b benchmark) measure(ctx context.Context, subjects []subject, l load, problem string) []entry {
	entries := make([]entry, len(subjects))
	for i, s := range subjects {
		entries[i] = entry{load: l, Subject: s.name(), Problem: problem}
	}
	for round := range b.rounds {
		for _, i := range turns(len(subjects), round) {
			e := &entries[i]
			if e.Problem != "" || ctx.Err() != nil {
				continue
			}
			got, err := take(ctx, subjects[i], l, b.length)
			if err != nil {
				e.fail(err)
				b.say("%v, round %d of %d, %s: %v", l, round+1, b.rounds, e.Subject, err)
				continue
			}
			e.Samples = append(e.Samples, got)
			b.say("%v, round %d of %d, %s: %.2f Mpps", l, round+1, b.rounds, e.Subject, got.rate())
		}
	}
	return entries
}

// turns returns the order of a round: in every other one it is reversed, so that nobody always follows the same one.
func turns(n, round int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

func (b benchmark) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }
