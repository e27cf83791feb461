package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
)

// Config is what a Keeper needs.
type Config struct {
	Path  string                           // of the file, to be told
	Base  daemon.Config                    // what the file or the flags say
	Now   func() (daemon.Config, []string) // what runs, and the guests whose link is down
	Write func(text []byte) error          // returns when the disk has it
	Told  func(err error)                  // is called when nothing is kept any more, with the reason, and with nil when it is again
}

const (
	// writeRate is how often a state is written in a second, after writeBurst at once. Changes that come in between are kept by one write.
	writeRate, writeBurst = 20, 20
	// retry is when a write is tried again that has failed.
	retry = 5 * time.Second
)

// errEnded is why nothing is kept any more.
var errEnded = errors.New("vring is ending")

// Keeper keeps what is changed. Any goroutine may use it.
type Keeper struct {
	Config
	pace *rate.Limiter
	wake chan struct{} // has an element if there is a next round
	done chan struct{} // is closed when Run has ended

	mu    sync.Mutex // guards what follows
	base  daemon.Config
	next  *round // that has not begun; nil for none
	ended bool
	err   error // of the last write
}

// round is one write, and who waits for it.
type round struct {
	done chan struct{}
	err  error // when it is done
}

// New returns a keeper. It keeps nothing until Run runs.
func New(c Config) *Keeper {
	return &Keeper{
		Config: c, base: c.Base, pace: rate.NewLimiter(writeRate, writeBurst), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Run writes what there is to keep, until ctx ends. What is wanted by then is kept.
func (k *Keeper) Run(ctx context.Context) {
	defer close(k.done)
	again := time.NewTimer(retry)
	again.Stop() // nothing has failed yet
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			k.end()
			return
		case <-k.wake:
		case <-again.C:
			k.want()
			continue
		}
		_ = k.pace.Wait(ctx) // at the end, there is no time for it
		if k.write() != nil {
			again.Reset(retry)
		}
	}
}

// end makes the last round.
func (k *Keeper) end() {
	k.mu.Lock()
	last := k.next != nil
	k.ended = true
	k.mu.Unlock()
	if last {
		_ = k.write()
	}
}

// want returns the round that has not begun; nil if there will be none.
func (k *Keeper) want() *round {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return nil
	}
	if k.next == nil {
		k.next = &round{done: make(chan struct{})}
		k.wake <- struct{}{} // has room: whoever takes the round has taken the element before
	}
	return k.next
}

// Keep returns when all that was changed before is kept. The error is why it is not, or not yet.
func (k *Keeper) Keep(patience time.Duration) error {
	r := k.want()
	if r == nil {
		return errEnded
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.err
	case <-timer.C:
		return fmt.Errorf("the disk has not taken it within %v", patience)
	}
}

// SetBase says what the file says by now. The next Keep keeps the difference to that.
func (k *Keeper) SetBase(c daemon.Config) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.base = c.Clone()
}

// File is the file in which the state is kept, and why it is not; nil if it is.
func (k *Keeper) File() (path string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Path, k.err
}

// write makes one round.
func (k *Keeper) write() error {
	k.mu.Lock()
	r, base := k.next, k.base
	k.next = nil
	k.mu.Unlock()
	now, linksDown := k.Now()
	text, err := configfile.StateOf(&base, &now, linksDown).Marshal()
	if err == nil {
		err = k.Write(text)
	}
	r.err = err
	k.mu.Lock()
	changed := (k.err == nil) != (err == nil)
	k.err = err
	k.mu.Unlock()
	if changed {
		k.Told(err)
	}
	close(r.done)
	return err
}

// Wait returns when Run has ended.
func (k *Keeper) Wait() { <-k.done }
