package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/vringnet/vring/netbackend/nat"
)

const (
	// drainLook is how often it is looked whether flows are left.
	drainLook = time.Second
	// drainLookPatience is how long such a look may take.
	drainLookPatience = 10 * time.Second
	// MaxDrainFlows is how many flows of a guest are counted at most.
	MaxDrainFlows = 1000
)

// Drain is how a daemon ends when its guests' connections have: nothing new begins. Forwards are closed, and guests may go nowhere; what
// is open goes on, but for UDP by forwards, whose sockets are closed.
type Drain struct {
	Since time.Time
	Until time.Time // when the daemon ends all the same; zero for never
	Flows int       // that were left when it was looked last, of each guest MaxDrainFlows at most; negative before the first look
}

// draining is a Drain that goes on.
type draining struct {
	now    Drain // guarded by Daemon.applying
	cancel context.CancelFunc
}

// ErrNoNAT is that guests are not behind NAT.
var ErrNoNAT = errors.New("guests of this vring are not behind NAT, so nothing is known of their connections")

// ErrNotDraining is that there is no Drain.
var ErrNotDraining = errors.New("it is not draining")

// errEnding is that it is too late.
var errEnding = errors.New("it is ending already")

// errDraining is why where guests may go, and forwards, do not change.
var errDraining = errors.New("it is draining: nothing new may begin; take that back before forwards and rules change")

// StartDrain begins a Drain, or gives the one that there is another end. When no flow is left, or timeout has passed, over is called, on
// another goroutine; 0 is no timeout. over asks Serve to end. What the configuration says stays as it is. Any goroutine may call it while
// Serve serves guests. The error is ErrNoNAT, or why forwards could not be closed; then nothing has changed.
func (d *Daemon) StartDrain(timeout time.Duration, over func()) (Drain, error) {
	d.applying.Lock()
	defer d.applying.Unlock()
	switch {
	case !d.now.HasNAT():
		return Drain{}, ErrNoNAT
	case d.ending:
		return Drain{}, errEnding
	}
	now := Drain{Since: time.Now(), Flows: -1}
	if d.drain != nil {
		now = d.drain.now
		d.stopLooking()
	} else if err := d.closeForNew(); err != nil {
		return Drain{}, err
	}
	now.Until = time.Time{}
	if timeout > 0 {
		now.Until = time.Now().Add(timeout)
	}
	ctx, cancel := context.WithCancel(context.Background())
	drain := &draining{now: now, cancel: cancel}
	d.drain = drain
	d.lookers.Go(func() { d.lookForFlows(ctx, drain, over) })
	d.tell(DrainChanged{Draining: true, Until: now.Until})
	return now, nil
}

// closeForNew lets nothing new begin. It requires applying.
func (d *Daemon) closeForNew() error {
	closed := clone(d.now)
	for _, n := range closed.allNAT() {
		n.Forwards, n.AllowHost, n.Rules, n.Redirects, n.Restrict = nil, nil, nil, nil, true
	}
	policies, err := d.policies(&closed)
	if err != nil {
		return err
	}
	forwards, err := d.planForwards(&closed)
	if err != nil {
		return err
	}
	forwards.adopt(new(Applied)) // a thread that does not answer does so before it handles a frame again
	policies.keepFlows().adopt()
	return nil
}

// CancelDrain takes a Drain back: forwards are opened again, and guests may go where they might before. The error is ErrNotDraining, or that a
// forward cannot be had, since another program has its place; then the Drain goes on.
func (d *Daemon) CancelDrain() error {
	d.applying.Lock()
	defer d.applying.Unlock()
	if d.drain == nil {
		return ErrNotDraining
	}
	policies, err := d.policies(&d.now)
	if err != nil {
		return err
	}
	forwards, err := d.planForwards(&d.now)
	if err != nil {
		return err
	}
	if err := forwards.open(new(Applied)); err != nil {
		return err
	}
	forwards.adopt(new(Applied))
	policies.keepFlows().adopt()
	d.stopLooking()
	d.tell(DrainChanged{})
	return nil
}

// Draining returns the Drain that goes on, if there is one.
func (d *Daemon) Draining() (now Drain, draining bool) {
	d.applying.Lock()
	defer d.applying.Unlock()
	if d.drain == nil {
		return Drain{}, false
	}
	return d.drain.now, true
}

// stopLooking ends the Drain that there is, without opening what it has closed. It requires applying.
func (d *Daemon) stopLooking() {
	d.drain.cancel()
	d.drain = nil
}

// endDrain waits until nobody looks for flows any more, and lets nobody begin to. Serve calls it when guests are not served any more.
func (d *Daemon) endDrain() {
	d.applying.Lock()
	d.ending = true
	if d.drain != nil {
		d.stopLooking()
	}
	d.applying.Unlock()
	d.lookers.Wait()
}

// lookForFlows calls over when no flow is left, or the time of a Drain is. It lasts until ctx ends otherwise.
func (d *Daemon) lookForFlows(ctx context.Context, drain *draining, over func()) {
	if until := drain.now.Until; !until.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, until)
		defer stop()
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			if d.goesOn(drain) {
				over()
			}
			return
		case <-look.C:
		}
		if flows, err := d.countFlows(ctx); err == nil && d.setLeft(drain, flows) && flows == 0 {
			over()
			return
		}
		look.Reset(drainLook)
	}
}

// setLeft notes how many flows are left, and reports whether the Drain goes on.
func (d *Daemon) setLeft(drain *draining, flows int) bool {
	d.applying.Lock()
	defer d.applying.Unlock()
	drain.now.Flows = flows
	return d.drain == drain
}

// goesOn reports whether a Drain was neither taken back nor given another end.
func (d *Daemon) goesOn(drain *draining) bool {
	d.applying.Lock()
	defer d.applying.Unlock()
	return d.drain == drain
}

// countFlows counts the flows of all guests, of each MaxDrainFlows at most.
func (d *Daemon) countFlows(ctx context.Context) (all int, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainLookPatience)
	defer cancel()
	for _, s := range d.all() {
		if s.snapshot == nil {
			continue // its network has none
		}
		flows, _, err := d.Flows(ctx, s.name, new(nat.FlowFilter), MaxDrainFlows)
		if err != nil {
			return 0, err
		}
		all += len(flows)
	}
	return all, nil
}
