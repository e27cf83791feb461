package adb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/vringnet/vring/bench/adb/errand"
)

// The ways to the service.
const (
	chain  = "adb"
	direct = "vring"
	gated  = "vring, gated"
)

const (
	volume     = 128 << 20              // bytes in each direction
	turn       = 700 * time.Millisecond // of requests, and of connections
	loadLimit  = 30 * time.Second       // for one errand, so that every run ends
	learnLimit = 3 * time.Second        // for a client to learn something
)

// round measures everything once.
type round struct {
	tools
	number   int
	document *document
	progress io.Writer
	place    *place
}

func (r *round) run(ctx context.Context) (err error) {
	if r.place, err = newPlace(ctx, r.tools); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.place.Close()) }()
	for _, step := range []func(context.Context) error{r.loads, r.refusals, r.ends, r.deaths, r.serverKilled, r.guestKilled} {
		if err := errors.Join(ctx.Err(), step(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// ways returns both, in turns.
func (r *round) ways() []string {
	w := []string{chain, direct}
	if r.number%2 == 1 {
		slices.Reverse(w)
	}
	return w
}

func (r *round) client(way string, limit time.Duration) errand.Client {
	return r.place.client(way, limit)
}

// loads measures rates and times.
func (r *round) loads(context.Context) error {
	for _, load := range []func(way string, c errand.Client) error{r.upload, r.download, r.ask, r.connects} {
		for _, way := range r.ways() {
			if err := load(way, r.client(way, loadLimit)); err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
		}
	}
	return nil
}

// perSecond returns volume as megabytes per second.
func perSecond(took time.Duration) float64 { return volume / 1e6 / took.Seconds() }

func (r *round) upload(way string, c errand.Client) error {
	took, err := c.Upload(volume)
	if err != nil {
		return err
	}
	r.note(upload, way, perSecond(took))
	return nil
}

func (r *round) download(way string, c errand.Client) error {
	took, err := c.Download(volume)
	if err != nil {
		return err
	}
	r.note(download, way, perSecond(took))
	return nil
}

func (r *round) ask(way string, c errand.Client) error { return r.times(way, c, p50, p99) }

// times notes the median and the 99th percentile of requests, in microseconds.
func (r *round) times(way string, c errand.Client, median, tail figure) error {
	times, err := c.Ask(turn)
	if err != nil {
		return err
	}
	at := func(percent int) float64 { return float64(times[len(times)*percent/100].Nanoseconds()) / 1e3 }
	r.note(median, way, at(50))
	r.note(tail, way, at(99))
	return nil
}

func (r *round) connects(way string, c errand.Client) error {
	rate, err := c.Connects(turn)
	if err != nil {
		return err
	}
	r.note(connects, way, rate)
	return nil
}

func (r *round) note(what figure, way string, value float64) {
	r.document.add(what, way, value)
	fmt.Fprintf(r.progress, "round %d: %s, %s: %.1f\n", r.number+1, what, way, value)
}

func (r *round) learned(event, way string, l errand.Lesson) {
	r.document.learn(event, way, l)
	fmt.Fprintf(r.progress, "round %d: %s, %s: %s after %v\n", r.number+1, event, way, l.What, l.Took)
}

// refusals connects to where nobody listens.
func (r *round) refusals(context.Context) error {
	for way, port := range map[string]int{
		chain: r.place.chainNobody, direct: r.place.directNobody, gated: r.place.gated,
	} {
		r.learned("refused port", way, errand.Client{Address: loopback(port), Limit: learnLimit}.Try())
	}
	return nil
}

// ends has the service end connections, or the client half of one.
func (r *round) ends(context.Context) error {
	for _, event := range []struct {
		name  string
		order errand.Order
	}{{"half close by the client", errand.Last}, {"reset by the service", errand.Reset}} {
		for _, way := range r.ways() {
			l, err := r.client(way, learnLimit).Provoke(event.order)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", event.name, way, err)
			}
			r.learned(event.name, way, l)
		}
	}
	return nil
}

// deaths kills the service's process. With data that it has not read, its kernel resets the connection.
func (r *round) deaths(ctx context.Context) error {
	for _, way := range r.ways() {
		if err := r.death(ctx, "killed service", way); err != nil {
			return err
		}
		if err := r.death(ctx, "killed service, unread data", way, make([]byte, 64)...); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) death(ctx context.Context, event, way string, unread ...byte) error {
	l, err := r.client(way, learnLimit).Provoke(errand.Die, unread...)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", event, way, err)
	}
	r.learned(event, way, l)
	ctx, cancel := context.WithTimeout(ctx, learnLimit)
	defer cancel()
	return errors.Join(r.place.died.Wait(ctx, nil), r.place.startService(ctx))
}

// serverKilled kills the adb server under the connections of both ways, and starts another.
func (r *round) serverKilled(ctx context.Context) error {
	if err := r.watch("killed adb server", r.place.server.Kill); err != nil {
		return err
	}
	return r.place.startChain(ctx)
}

// guestKilled is the last step.
func (r *round) guestKilled(context.Context) error {
	return r.watch("killed guest", r.place.guest.Kill)
}

// watch has a client each way notice an event.
func (r *round) watch(event string, cause func() error) error {
	type notice struct {
		way string
		errand.Lesson
	}
	notices := make(chan notice)
	start := make(chan time.Time)
	for _, way := range r.ways() {
		s, err := r.client(way, loadLimit).Stay()
		if err != nil {
			return fmt.Errorf("%s, %s: %w", event, way, err)
		}
		defer s.Close()
		go func() { notices <- notice{way, s.Watch(<-start, learnLimit)} }()
	}
	now := time.Now()
	start <- now
	start <- now
	err := cause()
	for range r.ways() {
		n := <-notices
		r.learned(event, n.way, n.Lesson)
	}
	return err
}
