package worker

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// ReleaseTimeout is how long the control plane waits for a worker to obey. A turn takes well under a millisecond, so a
// worker that needs longer is stuck in guest memory that does not answer.
const ReleaseTimeout = time.Second

// ErrCondemned tells that a worker did not let go of the guest's rings in time. Memory and fds of the session must be
// kept until Device.Reset returns nil.
var ErrCondemned = errors.New("worker does not let go of the guest's memory")

// ringFeatures are the feature bits that rings and worker bring, whatever the Port is.
const ringFeatures = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureIndirectDesc | vnet.FeatureEventIdx |
	vnet.FeatureAnyLayout | vnet.FeatureInOrder

// Config says what a Device is made of.
type Config struct {
	// Ports are the queue pairs' ports in order. The Device owns them from New on, and closes them.
	Ports []netbackend.Port
	// Counters are those of Ports, in order, to be published; nil, or nil for a Port, if there are none. They are read on
	// the Port's thread between turns.
	Counters []counting.Source
	// Notices is called with what Ports raise, from a goroutine of the Device's own. Nil drops them. Those that come
	// again and again come to it about every ten seconds only, with the number of those that were left out.
	Notices func(netbackend.Notice)
	// Now is the clock in nanoseconds that Ports are given. Nil means the monotonic clock.
	Now func() int64
	// Poll bounds how long a thread that has run out of work looks at its rings before it sleeps; 0 for not at all. How
	// long it really does depends on the traffic. It does not while threads have to wait for a processor, which cannot be
	// known on every host. SetPoll changes it.
	Poll time.Duration
	// MaxSleep bounds how long a thread sleeps at a time; 0 for no bound. SetMaxSleep changes it, and tells what it is for.
	MaxSleep time.Duration
	// CPUs are the processors that threads are pinned to, one after the other and over again. None lets them roam.
	CPUs []int
	// Pressure is asked whether threads have to wait for a processor, and stays the caller's; nil lets the Device open one of its own.
	Pressure *CPUPressure
}

// Device is the data path of one guest.
type Device struct {
	loops    []*loop
	features uint64
	notices  chan netbackend.Notice
	lost     atomic.Uint64 // notices that are told by their number only
	dropped  atomic.Uint64 // frames of rings that were disabled
	failed   chan error
	poll     atomic.Int64 // what Config.Poll says at present, in nanoseconds
	maxSleep atomic.Int64 // what Config.MaxSleep says at present, in nanoseconds
	pressure *CPUPressure // of its own; nil for none
	line     netem.Shared // of the emulated link
	wg       sync.WaitGroup

	mu        sync.Mutex // guards the fields below, for Close
	condemned bool
	closed    bool
	ended     bool // all threads
}

// New starts a thread for each port of cfg. If it fails, it has closed the ports.
func New(cfg Config) (*Device, error) {
	if len(cfg.Ports) == 0 {
		return nil, errors.New("a device needs at least one queue pair")
	}
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() int64 { return int64(time.Since(start)) }
	}
	d := &Device{
		features: ringFeatures,
		notices:  make(chan netbackend.Notice, 64),
		failed:   make(chan error, 1),
	}
	offers := ^uint64(0)
	for i, p := range cfg.Ports {
		offers &= p.Offers()
		l, err := newLoop(d, i, p, &cfg)
		if err != nil {
			return nil, errors.Join(err, d.discard(cfg.Ports))
		}
		d.loops = append(d.loops, l)
	}
	d.SetPoll(cfg.Poll)
	d.SetMaxSleep(cfg.MaxSleep)
	d.preparePolling(cfg.Pressure)
	d.features |= offers
	if len(cfg.Ports) > 1 {
		d.features |= vnet.FeatureMQ | vnet.FeatureCtrlVQ | vnet.FeatureGuestAnnounce
	}
	if err := d.start(&cfg); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// SetPoll changes what Config.Poll says. Anybody may call it at any time. A thread adopts it before it sleeps; none is woken
// for it.
func (d *Device) SetPoll(bound time.Duration) { d.poll.Store(max(0, int64(bound))) }

// Poll returns what SetPoll has set last, or Config.Poll. Anybody may call it at any time.
func (d *Device) Poll() time.Duration { return time.Duration(d.poll.Load()) }

// SetMaxSleep changes what Config.MaxSleep says. Anybody may call it at any time. A thread adopts it before it sleeps; none is woken
// for it.
//
// It is for times at which the whole process is stopped again and again, as when it enters its sandbox. Go 1.26 and 1.27 do not
// notice a thread that goes to sleep just when they stop the others (runtime: reentersyscall looks for that before the thread
// counts as one in a system call). They wait until it wakes up, or for a minute.
func (d *Device) SetMaxSleep(bound time.Duration) { d.maxSleep.Store(max(0, int64(bound))) }

// MaxSleep returns what SetMaxSleep has set last, or Config.MaxSleep. Anybody may call it at any time.
func (d *Device) MaxSleep() time.Duration { return time.Duration(d.maxSleep.Load()) }

// preparePolling lets threads look at their rings, if it can be known when they had better not. It is done whether they are to or
// not: later a sandbox forbids it.
func (d *Device) preparePolling(c *CPUPressure) {
	if runtime.NumCPU() < 2 {
		return // with one processor, whoever is waited for needs it
	}
	if c == nil {
		var err error
		if c, err = OpenCPUPressure(); err != nil {
			return
		}
		d.pressure = c
	}
	for _, l := range d.loops {
		l.moderation.poller = poller{limit: &d.poll, oversubscribed: c.probe()}
	}
}

// counters returns those of a Port, nil if it has none.
func (c *Config) counters(port int) counting.Source {
	if port >= len(c.Counters) {
		return nil
	}
	return c.Counters[port]
}

// discard undoes New before any thread has run.
func (d *Device) discard(ports []netbackend.Port) error {
	var errs []error
	for _, l := range d.loops {
		l.closeFDs()
	}
	for _, p := range ports {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// start lets the threads run, with a place in Go's scheduler left for everybody else; who has several devices makes room for
// all of them. The threads have their processors when it
// returns; after an error they run, too.
func (d *Device) start(cfg *Config) error {
	if n := len(d.loops) + 1; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	notices := cfg.Notices
	if notices == nil {
		notices = func(netbackend.Notice) {}
	}
	go newEventlog(d, notices).run()
	var errs []error
	for i, l := range d.loops {
		if n := len(cfg.CPUs); n > 0 {
			l.cpu = cfg.CPUs[i%n]
		}
		ready := make(chan error)
		d.wg.Go(func() { l.run(ready) })
		if err := <-ready; err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Features returns the virtio features that the device can honour.
func (d *Device) Features() uint64 { return d.features }

// QueuePairs returns the number of queue pairs: rings 2i take frames to the guest, rings 2i+1 bring its own.
func (d *Device) QueuePairs() int { return len(d.loops) }

// Dropped returns how many frames the guest sent on rings that the front end had disabled, or while its link was down; they went nowhere. Anybody may
// call it.
func (d *Device) Dropped() uint64 { return d.dropped.Load() }

// Lost returns how many notices were lost because too many came at once. Anybody may call it.
func (d *Device) Lost() uint64 { return d.lost.Load() }

// Failed tells why the data path gave up this session's guest, such as a fault in its memory.
func (d *Device) Failed() <-chan error { return d.failed }

// fail reports err once; the session that reads it ends.
func (d *Device) fail(err error) {
	select {
	case d.failed <- err:
	default:
	}
}

// SetFeatures tells what the guest's driver acknowledged.
func (d *Device) SetFeatures(features uint64) error {
	if extra := features &^ d.features; extra != 0 {
		return fmt.Errorf("features were acknowledged that had not been offered: %v", vnet.FeatureNames(extra))
	}
	return d.each(func(l *loop) error { return l.setFeatures(features) })
}

// SetMemory replaces the guest's memory; nil takes it away. After a nil error nobody uses the previous table.
func (d *Device) SetMemory(t *guestmem.Table) error {
	return d.each(func(l *loop) error { return l.setMemory(t) })
}

// StartRing lets ring i run from the state that cfg describes. fds stay the caller's.
func (d *Device) StartRing(i int, cfg virtqueue.Config, fds virtqueue.RingFDs) error {
	return d.ring(i, func(l *loop, r *ring) error { return l.startRing(r, cfg, fds) })
}

// StopRing stops ring i, flushes it, and returns where it stands. Its fds are out of use then. A ring that its driver has broken has stopped by itself: the answer is where it stood.
func (d *Device) StopRing(i int) (state virtqueue.State, err error) {
	err = d.ring(i, func(l *loop, r *ring) error {
		var err error
		state, err = l.stopRing(r)
		return err
	})
	if errors.Is(err, ErrCondemned) {
		return virtqueue.State{}, err // state belongs to the thread still
	}
	return state, err
}

// EnableRing lets frames pass through ring i, or keeps them away from it. It is remembered while the ring is stopped. A
// transmit ring that is disabled while it runs drops its frames; one that was not enabled yet since StartRing keeps them.
func (d *Device) EnableRing(i int, on bool) error {
	return d.ring(i, func(l *loop, r *ring) error { return l.enableRing(r, on) })
}

// SetLink takes the link of the guest up, as it is at first, or down. While it is down, all rings are as if they were disabled while they ran,
// whatever front ends do: what the guest sends is dropped and counted, and it gets nothing. The guest is not told. Any goroutine may call it. A
// thread that does not answer in time does so before its next turn; the error is ErrCondemned then.
func (d *Device) SetLink(up bool) error {
	return d.tellAll(func(l *loop) { l.setLink(up) })
}

// SetKick replaces the kick fd of ring i; -1 means that the driver does not kick, and the ring is polled.
func (d *Device) SetKick(i, fd int) error {
	return d.ring(i, func(l *loop, r *ring) error { return l.setKick(r, fd) })
}

// SetCall replaces the call fd of ring i, -1 for none, and signals it once, in case an interrupt was lost between.
func (d *Device) SetCall(i, fd int) error {
	return d.ring(i, func(l *loop, r *ring) error { return l.setCall(r, fd) })
}

// SetErr replaces the error fd of ring i, -1 for none.
func (d *Device) SetErr(i, fd int) error {
	return d.ring(i, func(_ *loop, r *ring) error {
		r.setErr(fd)
		return nil
	})
}

// SetLogging says what is marked in the dirty log of ring i from now on. Nil returned means that nobody uses the ring's log of before.
func (d *Device) SetLogging(i int, log virtqueue.Logging) error {
	return d.ring(i, func(_ *loop, r *ring) error {
		if r.q != nil {
			r.q.SetLogging(log)
		}
		return nil
	})
}

// minMTU is the least MTU that virtio allows (virtio 1.2 section 5.1.4.1).
const minMTU = 68

// SetMTU tells the MTU in bytes that the guest will use.
func (d *Device) SetMTU(mtu int) error {
	if mtu < minMTU || mtu > 65535 {
		return fmt.Errorf("MTU %d is not between %d and 65535", mtu, minMTU)
	}
	if err := d.link(func(p netbackend.Link) error { return p.SetMTU(mtu) }); err != nil {
		return err
	}
	return d.each(func(l *loop) error {
		l.state.MTU = mtu
		l.tellPort()
		return nil
	})
}

// SendRARP is asked after a live migration, so that switches learn where the guest is. A Port without a switch behind it
// has nobody to tell.
func (d *Device) SendRARP(mac [6]byte) error {
	return d.link(func(p netbackend.Link) error { return p.Announce(mac) })
}

// link asks the first Port, if it is a netbackend.Link.
func (d *Device) link(ask func(netbackend.Link) error) error {
	if d.isCondemned() {
		return ErrCondemned
	}
	l := d.loops[0]
	p, ok := l.backend.(netbackend.Link)
	if !ok {
		return nil
	}
	return d.call(l, func() error { return ask(p) })
}

// Reset ends a session: rings are stopped where they are and guest memory is forgotten. A non-nil error means that a
// thread still uses the session's memory or fds; the caller keeps them and calls Reset again.
func (d *Device) Reset() error {
	err := d.eachAnyway(func(l *loop) error {
		l.reset()
		return nil
	})
	if err != nil {
		return err
	}
	d.setCondemned(false)
	select {
	case <-d.failed:
	default:
	}
	return nil
}

// Close ends the threads and closes the ports. A thread that does not let go of the guest's memory within
// ReleaseTimeout is left behind; the error is ErrCondemned then.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	err := d.together((*loop).quit)
	if errors.Is(err, ErrCondemned) {
		return err
	}
	d.wg.Wait()
	d.ended = true
	close(d.notices)
	if d.pressure != nil {
		err = errors.Join(err, d.pressure.Close())
	}
	return err
}

func (d *Device) setCondemned(on bool) {
	d.mu.Lock()
	d.condemned = on
	d.mu.Unlock()
}

func (d *Device) isCondemned() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.condemned
}

// ring runs fn for ring i on its thread.
func (d *Device) ring(i int, fn func(*loop, *ring) error) error {
	if i < 0 || i >= 2*len(d.loops) {
		return fmt.Errorf("there is no ring %d: the device has %d queue pairs", i, len(d.loops))
	}
	if d.isCondemned() {
		return ErrCondemned
	}
	l := d.loops[i/2]
	return d.call(l, func() error { return fn(l, l.rings[i%2]) })
}

// each runs fn on every thread, and waits for all of them together.
func (d *Device) each(fn func(*loop) error) error {
	if d.isCondemned() {
		return ErrCondemned
	}
	return d.eachAnyway(fn)
}

func (d *Device) eachAnyway(fn func(*loop) error) error {
	return d.together(func(l *loop) error {
		return d.call(l, func() error { return fn(l) })
	})
}

// tellAll runs fn on all threads between two turns, and waits for that. Unlike each it is for what does not belong to a session, on any goroutine:
// a device that is condemned is told, too, and none is condemned by it. There is nobody to tell after Close.
func (d *Device) tellAll(fn func(*loop)) error {
	if d.hasEnded() {
		return nil
	}
	return d.together(func(l *loop) error {
		return l.call(func() error {
			fn(l)
			return nil
		})
	})
}

// together runs ask for every loop at the same time, so that several threads that are stuck cost the time of one.
func (d *Device) together(ask func(*loop) error) error {
	errs := make([]error, len(d.loops))
	var wg sync.WaitGroup
	for i, l := range d.loops {
		wg.Go(func() { errs[i] = ask(l) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// CPU returns the processor that the thread of queue pair i is pinned to, -1 for none.
func (d *Device) CPU(i int) int { return d.loops[i].cpu }

// call runs fn on l's thread between two turns, and waits for it. A thread that does not answer condemns the device.
func (d *Device) call(l *loop, fn func() error) error {
	err := l.call(fn)
	if errors.Is(err, ErrCondemned) {
		d.setCondemned(true)
	}
	return err
}
