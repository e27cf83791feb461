package vhostuser

import (
	"context"
	"sync"
	"time"

	"github.com/vringnet/vring/internal/pace"
	"github.com/vringnet/vring/vhostuser/internal/fdconn"
)

// doorkeeper turns away front ends that come while one is served. Who has said something is told of, and slowed down if it
// comes again and again; who just looks whether somebody listens is not.
type doorkeeper struct {
	log    *limitedLog
	places chan struct{} // one for each that is being turned away
	wg     sync.WaitGroup

	mu    sync.Mutex
	pacer pace.Pacer
}

const (
	// turnedAtOnce is how many connections are turned away at a time; others wait to be accepted.
	turnedAtOnce = 4
	// wordPatience is how long a connection may be silent before it counts as a front end.
	wordPatience = 3 * time.Second
)

func newDoorkeeper(log *limitedLog) *doorkeeper {
	return &doorkeeper{log: log, places: make(chan struct{}, turnedAtOnce)}
}

// full reports whether no more connections can be turned away for now.
func (d *doorkeeper) full() bool { return len(d.places) == cap(d.places) }

// turnAway refuses c, which it owns from now on. It returns at once; there must be a place.
func (d *doorkeeper) turnAway(ctx context.Context, c *fdconn.Conn, done chan<- struct{}) {
	d.places <- struct{}{}
	d.wg.Go(func() {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
		if c.Spoke(wordPatience) && ctx.Err() == nil {
			d.log.Warn("another front end was refused: one is being served already")
			pause(ctx, d.pace())
		}
		c.Close()
		<-d.places
		select {
		case done <- struct{}{}: // wakes who waits for a place
		default:
		}
	})
}

func (d *doorkeeper) pace() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	return d.pacer.Ended(now, now)
}
