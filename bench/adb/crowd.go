package adb

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// crowd is several guests at once. All of them share one adb server, as they do on every host; each has a vring of its own.
type crowd struct {
	round
	places []*place // the first one has the adb server
}

// run measures with n guests.
func (c *crowd) run(ctx context.Context, n int) (err error) {
	defer func() { err = errors.Join(err, c.close()) }()
	for len(c.places) < n {
		p, err := newNeighbour(ctx, c.tools, c.sharedServer())
		if err != nil {
			return err
		}
		c.places = append(c.places, p)
	}
	for _, way := range c.ways() {
		for _, step := range []func(way string) error{c.allAtOnce, c.quiet, c.besideStream, c.besideStopped} {
			if err := errors.Join(ctx.Err(), step(way)); err != nil {
				return fmt.Errorf("%d guests, %s: %w", n, way, err)
			}
		}
	}
	return nil
}

func (c *crowd) sharedServer() *adbServer {
	if len(c.places) == 0 {
		return nil
	}
	return c.places[0].server
}

// close ends the guests, the adb server with the last.
func (c *crowd) close() error {
	var errs []error
	for i := len(c.places) - 1; i >= 0; i-- {
		errs = append(errs, c.places[i].Close())
	}
	return errors.Join(errs...)
}

func (c *crowd) figure(what string) figure {
	return figure(fmt.Sprintf("%d guests: %s", len(c.places), what))
}

// allAtOnce has every guest send its share of the volume at the same time.
func (c *crowd) allAtOnce(way string) error {
	start, ended := time.Now(), make(chan error)
	for _, p := range c.places {
		go func() {
			_, err := p.client(way, loadLimit).Download(volume / int64(len(c.places)))
			ended <- err
		}()
	}
	var errs []error
	for range c.places {
		errs = append(errs, <-ended)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.note(c.figure("all send, MB/s in all"), way, perSecond(time.Since(start)))
	return nil
}

// quiet asks the last guest while nobody else does anything.
func (c *crowd) quiet(way string) error { return c.askLast(way, "while the others are idle") }

// besideStream asks the last guest while the first one is sent a stream.
func (c *crowd) besideStream(way string) error {
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		for {
			if _, err := c.places[0].client(way, loadLimit).Upload(volume / 8); err != nil {
				ended <- err
				return
			}
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
		}
	}()
	err := c.askLast(way, "while another one is sent a stream")
	close(stop)
	return errors.Join(err, <-ended)
}

// besideStopped asks the last guest while the first one has stopped, in the middle of a stream that it was being sent.
func (c *crowd) besideStopped(way string) error {
	first := c.places[0]
	ended := make(chan error, 1)
	go func() {
		_, err := first.client(way, loadLimit).Upload(volume)
		ended <- err
	}()
	if err := first.guest.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(settle)
	err := c.askLast(way, "while another one has stopped")
	return errors.Join(err, first.guest.Signal(syscall.SIGCONT), <-ended)
}

// settle is how long a stream to a guest that has stopped has to fill all buffers on its way.
const settle = time.Second

// askLast notes the requests of the last guest.
func (c *crowd) askLast(way, while string) error {
	last := c.places[len(c.places)-1].client(way, loadLimit)
	return c.times(way, last, c.figure("request p50 "+while+", µs"), c.figure("request p99 "+while+", µs"))
}
