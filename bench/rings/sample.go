package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vringnet/vring/integration/testpmd"
)

// warmUp is how long frames flow before they are counted.
const warmUp = 300 * time.Millisecond

// sample is one turn of a subject.
type sample struct {
	Frames  uint64        `json:"frames"`
	Elapsed time.Duration `json:"elapsed_ns"`
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
	stop, err := s.start(ctx, l, socket, dir)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()

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
	return count(front, parts()[l.Mode].counter, length)
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
