package vhostuser

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// fakeDevice records what a session does with it, and checks what Device promises an implementation.
type fakeDevice struct {
	t     testing.TB
	pairs int
	fail  chan error
	// during, if set, is called in each call, before anything else.
	during func(method string)

	mu       sync.Mutex
	calls    []string
	failing  map[string]error // by method
	bases    map[int]uint16   // what StopRing answers
	rings    map[int]*fakeRing
	features uint64
	mem      *guestmem.Table
	blocking bool // descriptors may block
}

type fakeRing struct {
	running, enabled bool
	cfg              virtqueue.Config
	fds              virtqueue.RingFDs
}

const fakeFeatures = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureEventIdx | vnet.FeatureIndirectDesc

func newFakeDevice(t testing.TB, pairs int) *fakeDevice {
	d := &fakeDevice{t: t, pairs: pairs, fail: make(chan error, 1), failing: map[string]error{}, bases: map[int]uint16{}}
	d.forget()
	return d
}

func (d *fakeDevice) forget() {
	d.rings = map[int]*fakeRing{}
	for i := range 2 * d.pairs {
		d.rings[i] = &fakeRing{}
	}
	d.features, d.mem = 0, nil
}

// call records a call, and runs do unless the method is to fail.
func (d *fakeDevice) call(method, args string, do func()) error {
	if d.during != nil {
		d.during(method)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, method+args)
	for i, r := range d.rings {
		if r.running {
			d.checkFDs(i, r.fds)
		}
	}
	if err := d.failing[method]; err != nil {
		return err
	}
	do()
	return nil
}

func (d *fakeDevice) check(ok bool, format string, args ...any) {
	if !ok {
		d.t.Errorf(format, args...)
	}
}

func (d *fakeDevice) checkFDs(i int, fds virtqueue.RingFDs) {
	for _, fd := range []int{fds.Kick, fds.Call, fds.Err} {
		if fd >= 0 {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			d.check(err == nil, "ring %d: borrowed descriptor is not open: %v", i, err)
			d.check(flags&unix.O_NONBLOCK != 0 || d.blocking, "ring %d: descriptor blocks", i)
		}
	}
}

func (d *fakeDevice) Features() uint64     { return fakeFeatures }
func (d *fakeDevice) QueuePairs() int      { return d.pairs }
func (d *fakeDevice) Failed() <-chan error { return d.fail }

func (d *fakeDevice) SetFeatures(f uint64) error {
	return d.call("SetFeatures", fmt.Sprintf(" %#x", f), func() {
		for i, r := range d.rings {
			d.check(!r.running, "SetFeatures while ring %d runs", i)
		}
		d.check(f&^fakeFeatures == 0, "SetFeatures with %#x", f)
		d.features = f
	})
}

func (d *fakeDevice) SetMemory(t *guestmem.Table) error {
	return d.call("SetMemory", "", func() {
		d.check(d.mem != nil || t != nil, "SetMemory without memory, of which there was none")
		d.mem = t
		for i, r := range d.rings {
			if r.running {
				err := r.cfg.Check(t)
				d.check(err == nil, "SetMemory: ring %d: %v", i, err)
			}
		}
	})
}

func (d *fakeDevice) StartRing(i int, cfg virtqueue.Config, fds virtqueue.RingFDs) error {
	return d.call("StartRing", fmt.Sprintf(" %d size %d base %d", i, cfg.Size, cfg.State.Base()), func() {
		r := d.rings[i]
		d.check(!r.running, "StartRing of ring %d, which runs", i)
		d.check(cfg.Dir == virtqueue.ToGuest == (i%2 == 0), "ring %d has direction %d", i, cfg.Dir)
		err := cfg.Check(d.mem)
		d.check(err == nil, "StartRing of ring %d: %v", i, err)
		d.checkFDs(i, fds)
		r.running, r.cfg, r.fds = true, cfg, fds
	})
}

func (d *fakeDevice) StopRing(i int) (virtqueue.State, error) {
	err := d.call("StopRing", fmt.Sprintf(" %d", i), func() {
		d.check(d.rings[i].running, "StopRing of ring %d, which is stopped", i)
		d.rings[i].running = false
	})
	return virtqueue.SplitState(d.bases[i]), err
}

func (d *fakeDevice) SetLogging(i int, l virtqueue.Logging) error {
	return d.call("SetLogging", fmt.Sprintf(" %d %v %v", i, l.Buffers, l.Ring), func() {
		d.check(d.rings[i].running, "SetLogging of ring %d, which is stopped", i)
		d.rings[i].cfg.Log = l
	})
}

func (d *fakeDevice) EnableRing(i int, on bool) error {
	return d.call("EnableRing", fmt.Sprintf(" %d %v", i, on), func() { d.rings[i].enabled = on })
}

func (d *fakeDevice) SetKick(i, fd int) error {
	return d.replace("SetKick", i, fd, func(r *fakeRing) { r.fds.Kick = fd })
}

func (d *fakeDevice) SetCall(i, fd int) error {
	return d.replace("SetCall", i, fd, func(r *fakeRing) { r.fds.Call = fd })
}

func (d *fakeDevice) SetErr(i, fd int) error {
	return d.replace("SetErr", i, fd, func(r *fakeRing) { r.fds.Err = fd })
}

func (d *fakeDevice) replace(method string, i, fd int, set func(*fakeRing)) error {
	return d.call(method, fmt.Sprintf(" %d", i), func() {
		d.check(d.rings[i].running, "%s of ring %d, which is stopped", method, i)
		set(d.rings[i])
		d.checkFDs(i, d.rings[i].fds)
	})
}

func (d *fakeDevice) DriverReset() error {
	return d.call("DriverReset", "", func() {
		for i, r := range d.rings {
			d.check(!r.running && !r.enabled, "DriverReset while ring %d runs or is enabled", i)
		}
		d.features = 0
	})
}

func (d *fakeDevice) DriverGone() error {
	return d.call("DriverGone", "", func() {
		for i, r := range d.rings {
			d.check(!r.running, "DriverGone while ring %d runs", i)
		}
	})
}

func (d *fakeDevice) SetMTU(mtu int) error {
	return d.call("SetMTU", fmt.Sprintf(" %d", mtu), func() {})
}

func (d *fakeDevice) SendRARP(mac [6]byte) error {
	return d.call("SendRARP", fmt.Sprintf(" %x", mac), func() {})
}

func (d *fakeDevice) Reset() error { return d.call("Reset", "", d.forget) }

// failOn makes a method fail, or work again with a nil error.
func (d *fakeDevice) failOn(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing[method] = err
}

// letBlock tells that the front end makes descriptors block, which it shares.
func (d *fakeDevice) letBlock() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blocking = true
}

// answerBase sets what StopRing of ring i answers.
func (d *fakeDevice) answerBase(i int, base uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bases[i] = base
}

// takeCalls returns the calls since it was called last.
func (d *fakeDevice) takeCalls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

// ring returns the state of ring i.
func (d *fakeDevice) ring(i int) fakeRing {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *d.rings[i]
}

// requireRings checks that all rings run and are enabled, or none.
func (d *fakeDevice) requireRings(running, enabled bool) {
	d.t.Helper()
	for i := range 2 * d.pairs {
		r := d.ring(i)
		require.Equal(d.t, running, r.running, "ring %d runs", i)
		require.Equal(d.t, enabled, r.enabled, "ring %d is enabled", i)
	}
}
