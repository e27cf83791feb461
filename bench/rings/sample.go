package rings

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vringnet/vring/integration/lab/testpmd"
)

// warmUp is how long frames flow before they are counted.
const warmUp = 300 * time.Millisecond

// sample is one turn of a subject.
type sample struct {
	Frames  uint64        `json:"frames"`
	Elapsed time.Duration `json:"elapsed_ns"`
	// Collections is how many garbage collections the back end made meanwhile, nil if it does not tell.
	Collections *int `json:"garbage_collections,omitempty"`
}

// rate returns millions of frames per second.
func (s sample) rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Frames) * 1e3 / float64(s.Elapsed.Nanoseconds())
}

// take lets a subject serve a new front end for a while.
func take(ctx context.Context, s subject, l load, length time.Duration) (_ sample, err error) {
	dir, err := os.MkdirTemp("", "rings")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	back, err := s.start(ctx, l, socket, dir)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, back.stop()) }()

	front, err := testpmd.Start(ctx, testpmd.Options{
		Socket: socket, Dir: dir, Mode: parts()[l.Mode].front, FrameSize: l.FrameSize, HugePages: l.HugePages,
		Device: l.device(),
	})
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, front.Kill()) }()
	if err := front.Forward(); err != nil {
		return sample{}, err
	}
	time.Sleep(warmUp)
	collections := back.collections()
	got, err := count(front, parts()[l.Mode].counter, length)
	got.Collections = collections()
	return got, err
}

// collections returns a function that tells how many garbage collections there were since, nil if that is not known.
func (r running) collections() func() *int {
	if r.output == nil {
		return func() *int { return nil }
	}
	_, last := collectionsAfter(r.output(), 0)
	return func() *int {
		n, _ := collectionsAfter(r.output(), last)
		return &n
	}
}

// count reads the front end's counters at both ends of a while.
func count(front *testpmd.Testpmd, counter func(testpmd.PortStats) uint64, length time.Duration) (sample, error) {
	before, err := front.PortStats()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	time.Sleep(length)
	after, err := front.PortStats()
	if err != nil {
		return sample{}, err
	}
	got := sample{Frames: counter(after) - counter(before), Elapsed: time.Since(start)}
	if got.Frames == 0 {
		return got, fmt.Errorf("no frame passed: %+v", after)
	}
	return got, nil
}
