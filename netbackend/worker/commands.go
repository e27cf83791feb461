package worker

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// How a command of the control plane reaches the thread: wake, call and quit run on any goroutine, obey on the thread.

// wake makes the thread look into its mailbox. Any goroutine may call it.
func (l *loop) wake() { _, _ = unix.Write(l.mailFD, one[:]) }

// quit ends the thread and closes its Port; the control plane calls it once. A thread that does not obey in time is
// left alone, and the error says so.
func (l *loop) quit() error {
	return l.call(func() error {
		l.reset()
		l.stop = true
		return l.port.Close()
	})
}

// call runs fn on the thread between two turns, and waits for it.
func (l *loop) call(fn func() error) error {
	done := make(chan error, 1)
	timeout := time.NewTimer(ReleaseTimeout)
	defer timeout.Stop()
	select {
	case l.mail <- func() { done <- fn() }:
		l.wake()
	case <-timeout.C:
		return ErrCondemned
	}
	select {
	case err := <-done:
		return err
	case <-timeout.C:
		return ErrCondemned
	}
}

// obey does what the control plane asked for.
func (l *loop) obey() {
	for {
		select {
		case fn := <-l.mail:
			fn()
			l.obeyed = true
		default:
			return
		}
	}
}

// The rest are the commands themselves. They run on the thread, between two turns.

func (l *loop) startPort(features uint64) {
	if err := l.port.Start(features, l); err != nil {
		l.device.fail(err)
	}
}

func (l *loop) setFeatures(features uint64) error {
	l.features = features
	l.attach()
	return l.port.Start(features, l)
}

// setMemory moves the running rings to a new table. A ring whose areas it does not hold stops.
func (l *loop) setMemory(t *guestmem.Table) error {
	l.memory = t
	var failed error
	for _, r := range l.rings {
		if r.q == nil {
			continue
		}
		err := errors.New("guest memory was taken away under a running ring")
		if t != nil {
			err = l.guard(func() error { return r.q.SetMemory(t) })
		}
		if err != nil {
			failed = err
			l.forget(r)
		}
	}
	l.changed()
	return failed
}

func (l *loop) startRing(r *ring, cfg virtqueue.Config, fds virtqueue.RingFDs) error {
	if r.q != nil {
		return errors.New("the ring runs already")
	}
	if l.memory == nil {
		return errors.New("there is no guest memory yet")
	}
	cfg.Dir = r.dir
	cfg.Indirect = l.features&vnet.FeatureIndirectDesc != 0
	cfg.EventIdx = l.features&vnet.FeatureEventIdx != 0
	err := l.guard(func() (err error) {
		if r.q, err = virtqueue.New(l.memory, cfg); err == nil {
			r.arm()
		}
		return err
	})
	if err != nil {
		r.q, r.armed = nil, false
		return err
	}
	r.setFDs(fds)
	r.state = virtqueue.State{}
	r.resumed = r.q.State() != virtqueue.State{}
	if err := l.watchKick(r); err != nil {
		l.forget(r)
		return err
	}
	if r == l.rx && l.first && !r.resumed {
		l.unfilled, l.emptyAt = true, l.now()+emptyPatience
	}
	if _, err := l.settle(r); err != nil {
		l.forget(r)
		return err
	}
	l.state.Reset = false
	l.changed()
	return nil
}

func (l *loop) watchKick(r *ring) error {
	if r.fds.Kick < 0 {
		return nil
	}
	return l.watch(r.fds.Kick, r.token, unix.EPOLLIN|unix.EPOLLET)
}

func (l *loop) stopRing(r *ring) (state virtqueue.State, err error) {
	if r.q == nil {
		return r.state, nil
	}
	err = l.guard(func() error {
		r.q.Rewind()
		r.flush()
		state = r.q.State()
		return nil
	})
	l.forget(r)
	l.changed()
	return state, err
}

// forget stops a ring without looking at it.
func (l *loop) forget(r *ring) {
	if r.q == nil {
		return
	}
	if r.fds.Kick >= 0 {
		l.Unregister(r.fds.Kick)
	}
	r.q, r.kicked, r.armed, r.refused, r.drops, r.waits = nil, false, false, false, false, false
	l.capture.seen = 0
	r.setFDs(noFDs)
	l.attach()
}

// enableRing enables or disables a ring. What waits in a transmit ring that was not enabled yet since it was set up is kept:
// many front ends send SET_VRING_KICK before SET_VRING_ENABLE.
func (l *loop) enableRing(r *ring, on bool) error {
	r.wanted, r.refused = on, !on && r.q != nil
	changed, err := l.settle(r)
	if changed {
		l.changed()
	}
	return err
}

// setLink takes the link of the guest up or down. While it is down, rings are as if the front end had disabled them while they ran.
func (l *loop) setLink(up bool) {
	l.down = !up
	for _, r := range l.rings {
		if _, err := l.settle(r); err != nil {
			l.condemn(err)
			return
		}
	}
	l.changed()
}

// settle lets frames pass through a ring, keeps them away from it, or drops them, as the front end and the link have it now. It reports whether
// that is something else than before. The error is a fault in the guest's memory.
func (l *loop) settle(r *ring) (changed bool, err error) {
	enabled := r.wanted && !l.down
	drops := r.q != nil && !enabled && (r.wanted || r.refused)
	if r.enabled == enabled && r.drops == drops {
		return false, nil
	}
	r.enabled, r.drops = enabled, drops
	if r.q == nil {
		return true, nil
	}
	r.q.Rewind()
	if r == l.tx && drops {
		err = guestmem.Guard(l.discard)
	}
	return true, err
}

// discard drops the frames of a transmit ring that is disabled from now on, and asks for a kick for those that come yet.
// Left in the ring, they would stay there for as long as it is disabled, and Linux does not repeat a segment while the
// device still has it. It is done before the front end may go on, which may free the ring's memory then.
func (l *loop) discard() {
	l.tx.kicked = true
	for n := 0; l.tx.kicked && n <= int(l.tx.q.Size()); n += batch {
		l.tx.kicked = l.drain()
	}
	l.tx.flush()
}

func (l *loop) setKick(r *ring, fd int) error {
	if r.q == nil {
		return nil
	}
	if r.fds.Kick >= 0 {
		l.Unregister(r.fds.Kick)
	}
	r.setFDs(virtqueue.RingFDs{Kick: fd, Call: r.fds.Call, Err: r.fds.Err})
	return l.watchKick(r)
}

func (l *loop) setCall(r *ring, fd int) error {
	if r.q == nil {
		return nil
	}
	r.setFDs(virtqueue.RingFDs{Kick: r.fds.Kick, Call: fd, Err: r.fds.Err})
	r.call()
	return nil
}

// reset ends a session: nothing of it is in use afterwards.
func (l *loop) reset() {
	for _, r := range l.rings {
		l.forget(r)
		r.wanted, r.enabled, r.state = false, false, virtqueue.State{}
	}
	l.memory, l.features, l.fault, l.unfilled, l.emptyAt = nil, 0, nil, false, 0
	l.state = netbackend.RingState{}
	l.tellPort()
	l.startPort(0) // what the next driver acknowledges may be nothing at all
}

// guard runs fn, which may touch guest memory, and turns a fault into an error.
func (l *loop) guard(fn func() error) (err error) {
	if fault := guestmem.Guard(func() { err = fn() }); fault != nil {
		return fault
	}
	return err
}

// changed follows a change of rings or memory.
func (l *loop) changed() {
	l.attach()
	l.tellPort()
}

// attach points the writer at the receive ring as it is now.
func (l *loop) attach() {
	if !l.rx.runs() {
		l.writer.Attach(nil, 0, false)
		return
	}
	l.writer.Attach(l.rx.q, vnet.HeaderLength(l.features), l.features&vnet.FeatureMrgRxBuf != 0)
}

// tellPort reports the state of the rings.
func (l *loop) tellPort() {
	l.state.Connected = l.memory != nil
	l.state.Transmit, l.state.Receive = l.tx.runs(), l.rx.runs()
	l.state.Restarted = l.rx.runs() && !l.rx.resumed
	l.port.RingsChanged(l.state)
}
