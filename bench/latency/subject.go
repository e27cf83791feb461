package latency

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/testpmd"
)

// start runs a back end that echoes on a socket in dir, until stop is called.
type start func(ctx context.Context, dir, socket string) (stop func() error, err error)

// subject is a back end to measure.
type subject struct {
	name  string
	start start
}

func vring(path string, poll int) start {
	return func(ctx context.Context, _, socket string) (func() error, error) {
		p, err := testbed.Launch(ctx, exec.Command(path, "stub", "--socket-path", socket, "--mode", "echo",
			"--poll-us", strconv.Itoa(poll)), testbed.SaysReady)
		if err != nil {
			return nil, err
		}
		return p.Kill, nil
	}
}

func netVhost(ctx context.Context, dir, socket string) (func() error, error) {
	p, err := testpmd.Start(ctx, testpmd.Options{Socket: socket, Backend: true, Dir: dir, Mode: testpmd.IO})
	if err != nil {
		return nil, err
	}
	return p.Kill, p.Forward()
}

// measure returns the round trips of one turn.
func (s subject) measure(ctx context.Context, opt options) (_ []time.Duration, err error) {
	dir, err := os.MkdirTemp("", "latency")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	stop, err := s.start(ctx, dir, socket)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	d, err := connect(socket)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	times := make([]time.Duration, 0, opt.frames)
	for i := range opt.frames {
		t, err := d.roundTrip(uint64(i))
		if err != nil || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		times = append(times, t)
		if opt.gap > 0 {
			time.Sleep(opt.gap)
		}
	}
	return times, nil
}
