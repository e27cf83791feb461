package taps

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
	"github.com/vringnet/vring/integration/lab/userland"
)

// subject is something to measure.
type subject interface {
	name() string
	// take sets it up in an arena and measures one turn.
	take(a *arena, l load, length time.Duration) (sample, error)
}

// benchmark is one run.
type benchmark struct {
	options
	progress io.Writer
	dir      string // for what is built
}

// run measures and reports. What was measured is reported even if a subject has failed.
func (b benchmark) run(ctx context.Context, stdout io.Writer) error {
	d := document{
		Benchmark: "Guests on TAP devices",
		Time:      time.Now(),
		Machine:   machine.Describe(ctx, guest.ProjectRoot()),
		Rounds:    b.rounds,
		Length:    b.length,
	}
	builds, err := b.vrings(ctx)
	if err != nil {
		return err
	}
	d.First = builds[0].label
	for _, c := range b.only {
		subjects, err := b.subjects(ctx, c, builds)
		if err != nil {
			return err
		}
		for _, l := range c.loads() {
			d.entries = append(d.entries, b.measure(ctx, subjects, l)...)
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
		}
	}
	d.compare()
	err = errors.Join(d.WriteMarkdown(stdout), report.WriteFiles(&d, b.out, "taps"))
	b.say("results are in %s", b.out)
	return errors.Join(err, d.failure())
}

// vrings returns the builds of vring to measure.
func (b benchmark) vrings(ctx context.Context) ([]build, error) {
	if len(b.builds) > 0 {
		return b.builds, nil
	}
	b.say("building vring")
	own := build{"vring", filepath.Join(b.dir, "vring")}
	return []build{own}, testbed.Build(ctx, "./cmd/vring", own.path)
}

// subjects returns who takes part in a contest: the builds of vring first.
func (b benchmark) subjects(ctx context.Context, c contest, builds []build) ([]subject, error) {
	var subjects []subject
	if c == frames {
		for _, v := range builds {
			subjects = append(subjects, framed{v.label, v})
		}
		return append(subjects, framed{nameDPDK, dpdk{}}), nil
	}
	image, err := b.image(ctx, c)
	if err != nil {
		return nil, err
	}
	if c == pairs {
		return pairSubjects(builds, image), nil
	}
	for _, v := range builds {
		if c == umls {
			subjects = append(subjects, umlGuest{v, image})
		} else {
			subjects = append(subjects, qemuGuest{&v, image})
		}
	}
	if c == umls {
		return append(subjects, veth{}), nil
	}
	return append(subjects, qemuGuest{nil, image}), nil
}

// image makes the initramfs of the guests of a contest and returns its path.
func (b benchmark) image(ctx context.Context, c contest) (string, error) {
	init, err := guest.BuildInit(ctx, b.dir)
	if err != nil {
		return "", err
	}
	modules := guest.KernelModules
	if c != qemus {
		modules = guest.UMLModules
	}
	im := guest.Image{Init: init}
	if im.Modules, err = modules(userland.Bookworm); err != nil {
		return "", err
	}
	for _, program := range []string{"ip", "iperf3"} {
		path, err := guest.FindTool(program)
		if err != nil {
			return "", err
		}
		im.Programs = append(im.Programs, path)
	}
	path := filepath.Join(b.dir, string(c)+".cpio")
	return path, im.Write(path)
}

// measure runs all rounds with one load.
func (b benchmark) measure(ctx context.Context, subjects []subject, l load) []entry {
	entries := make([]entry, len(subjects))
	for i, s := range subjects {
		entries[i] = entry{load: l, Subject: s.name()}
	}
	for round := range b.rounds {
		for _, i := range turns(len(subjects), round) {
			e := &entries[i]
			if e.Problem != "" || ctx.Err() != nil {
				continue
			}
			got, err := turn(ctx, subjects[i], l, b.length)
			if err != nil {
				e.fail(err)
				b.say("%v, round %d of %d, %s: %v", l, round+1, b.rounds, e.Subject, err)
				continue
			}
			e.Samples = append(e.Samples, got)
			b.say("%v, round %d of %d, %s: %s", l, round+1, b.rounds, e.Subject, got)
		}
	}
	return entries
}

// turnLimit is how much longer than planned a turn may take before it counts as broken.
const turnLimit = 2 * time.Minute

// turn is one turn of a subject.
func turn(ctx context.Context, s subject, l load, length time.Duration) (got sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, length+turnLimit)
	defer cancel()
	a, err := newArena(ctx)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	return s.take(a, l, length)
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
