package vhostuser

import (
	"errors"
	"slices"
	"sync"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// seat says which of the front ends that are connected the device serves. There are two at most: one, and one that waits. A
// guest that is migrated within this host, to another QEMU say, has both: the one that it leaves, and the one that it goes on in.
//
// The device passes from one to the other between two of its calls, while no ring runs. It keeps its Ports and all that they have of the
// guest, so for the guest's connections that is a pause. It passes
//
//   - when nobody has it,
//   - when the front end that has it has stopped all of its rings while it logged the guest's writes: that is the end of a migration,
//     and a pause or a reboot is not,
//   - and back to the front end that had it before, when the one that has it runs no ring: the migration has failed.
//
// So of two guests that were given the same socket by mistake the second one waits until the first one has gone.
type seat struct {
	dev Device

	mu      sync.Mutex // held during calls of the device
	present []*tenant  // whose front ends are connected
	owner   *tenant    // the device serves it, or did last; nil for nobody. It may have left, see estate
	before  *tenant    // had the device before owner
	// estate releases what an owner has left that is not present any more: the device has its memory still.
	estate func() error
	// broken is set when the device did not pass on as it should: it may use what is either's, until it was reset.
	broken bool

	// passing is held, within mu, while owner changes: who watches it does not wait for the device.
	passing sync.Mutex
}

// errHalfPassed tells that the device did not pass on as it should.
var errHalfPassed = errors.New("another front end's guest was to take the device over, and that failed")

func newSeat(dev Device) *seat { return &seat{dev: dev} }

// enter makes a tenant for a session. The first one has the device at once.
func (s *seat) enter() *tenant {
	t := &tenant{seat: s, enabled: map[int]bool{}, running: map[int]bool{}, changed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present = append(s.present, t)
	if s.owner == nil {
		s.pass(t)
	}
	return t
}

// tenant is the device for one session. Calls are passed on while the session has the device, and remembered otherwise. All
// methods but Failed and ownership are for the session's goroutine.
type tenant struct {
	seat *seat

	// Under seat.mu.
	features uint64
	mem      *guestmem.Table
	enabled  map[int]bool
	running  map[int]bool
	mtu      int
	rarp     *[6]byte // that is owed
	migrates bool     // it stopped its rings while it logged the writes of its guest, and has started none since
	// changed is closed when it gets or loses the device. It is under seat.passing.
	changed chan struct{}
}

var _ Device = (*tenant)(nil)

// do passes call on if t has the device, and notes what it did, or is to do.
func (t *tenant) do(call func(Device) error, note func()) error {
	s := t.seat
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errHalfPassed
	}
	if s.owner == t {
		if err := call(s.dev); err != nil {
			return err
		}
	}
	note()
	return nil
}

func nothing() {}

// Features implements Device, as the methods that follow do.
func (t *tenant) Features() uint64     { return t.seat.dev.Features() }
func (t *tenant) QueuePairs() int      { return t.seat.dev.QueuePairs() }
func (t *tenant) Failed() <-chan error { return t.seat.dev.Failed() }

func (t *tenant) SetFeatures(f uint64) error {
	return t.do(func(d Device) error { return d.SetFeatures(f) }, func() { t.features = f })
}

func (t *tenant) SetMemory(m *guestmem.Table) error {
	return t.do(func(d Device) error { return d.SetMemory(m) }, func() { t.mem = m })
}

// StartRing takes the device first, which must be free to be taken: see mayStart.
func (t *tenant) StartRing(i int, c virtqueue.Config, fds virtqueue.RingFDs) error {
	if err := t.take(); err != nil {
		return err
	}
	return t.do(func(d Device) error { return d.StartRing(i, c, fds) }, func() {
		t.running[i], t.migrates = true, false
	})
}

func (t *tenant) StopRing(i int) (state virtqueue.State, err error) {
	err = t.do(func(d Device) (err error) {
		state, err = d.StopRing(i)
		return err
	}, func() { delete(t.running, i) })
	return state, err
}

func (t *tenant) EnableRing(i int, on bool) error {
	return t.do(func(d Device) error { return d.EnableRing(i, on) }, func() { t.enabled[i] = on })
}

func (t *tenant) SetKick(i, fd int) error {
	return t.do(func(d Device) error { return d.SetKick(i, fd) }, nothing)
}

func (t *tenant) SetCall(i, fd int) error {
	return t.do(func(d Device) error { return d.SetCall(i, fd) }, nothing)
}

func (t *tenant) SetErr(i, fd int) error {
	return t.do(func(d Device) error { return d.SetErr(i, fd) }, nothing)
}

func (t *tenant) SetLogging(i int, l virtqueue.Logging) error {
	return t.do(func(d Device) error { return d.SetLogging(i, l) }, nothing)
}

func (t *tenant) DriverReset() error {
	return t.do(Device.DriverReset, func() { t.features, t.migrates = 0, false })
}

func (t *tenant) DriverGone() error { return t.do(Device.DriverGone, nothing) }

func (t *tenant) SetMTU(mtu int) error {
	return t.do(func(d Device) error { return d.SetMTU(mtu) }, func() { t.mtu = mtu })
}

// SendRARP is kept until t has the device: QEMU asks for the first one before it starts the rings.
func (t *tenant) SendRARP(mac [6]byte) error {
	return t.do(func(d Device) error { return d.SendRARP(mac) }, func() {
		if t.seat.owner != t {
			t.rarp = &mac
		}
	})
}

// stoppedWhileLogging notes that the front end has stopped a ring, and logged the writes of its guest then.
func (t *tenant) stoppedWhileLogging() {
	t.seat.mu.Lock()
	defer t.seat.mu.Unlock()
	t.migrates = true
}

// hasMigrated reports whether the guest of t may go on somewhere else. seat.mu is held.
func (t *tenant) hasMigrated() bool { return t.migrates && len(t.running) == 0 }

// mayStart reports whether t has the device, or may take it.
func (t *tenant) mayStart() bool {
	t.seat.mu.Lock()
	defer t.seat.mu.Unlock()
	return t.mayTake()
}

func (t *tenant) mayTake() bool {
	s := t.seat
	switch {
	case s.owner == t || s.owner == nil:
		return true
	case s.before == t:
		return len(s.owner.running) == 0
	}
	return s.owner.hasMigrated()
}

// ownership reports whether t has the device, and returns a channel that is closed when that changes.
func (t *tenant) ownership() (has bool, changes <-chan struct{}) {
	t.seat.passing.Lock()
	defer t.seat.passing.Unlock()
	return t.seat.owner == t, t.changed
}

// take makes t the one that has the device. After an error the device may use what is t's, or what was the other's.
func (t *tenant) take() error {
	s := t.seat
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken:
		return errHalfPassed
	case s.owner == t:
		return nil
	case !t.mayTake():
		return errors.New("the device serves another front end")
	}
	before := s.owner
	s.pass(t)
	s.before = before
	if err := t.tell(s.dev); err != nil {
		s.broken = true
		return err
	}
	return s.releaseEstate()
}

// pass makes t the owner, which may be nil.
func (s *seat) pass(t *tenant) {
	s.passing.Lock()
	defer s.passing.Unlock()
	for _, x := range []*tenant{s.owner, t} {
		if x != nil {
			close(x.changed)
			x.changed = make(chan struct{})
		}
	}
	s.owner = t
}

// tell tells the device what t has been told while it had not got the device. No ring runs.
func (t *tenant) tell(d Device) error {
	if err := d.SetFeatures(t.features); err != nil {
		return err
	}
	if err := d.SetMemory(t.mem); err != nil {
		return err
	}
	for i := range 2 * d.QueuePairs() {
		if err := d.EnableRing(i, t.enabled[i]); err != nil {
			return err
		}
	}
	if t.mtu != 0 {
		_ = d.SetMTU(t.mtu) // the network that does not carry it carries smaller frames, as with a front end that was told so
	}
	if t.rarp != nil {
		_ = d.SendRARP(*t.rarp) // nor does a front end that is told of it do anything
		t.rarp = nil
	}
	return nil
}

// releaseEstate releases what a front end has left that has gone, if there is something.
func (s *seat) releaseEstate() error {
	release := s.estate
	s.estate = nil
	if release == nil {
		return nil
	}
	return release()
}

// Reset ends the stay of t. With nil returned the device uses nothing of t any more, or it does so for the front end that
// the guest goes on with: see bequeath.
func (t *tenant) Reset() error {
	s := t.seat
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present = slices.DeleteFunc(s.present, func(p *tenant) bool { return p == t })
	switch {
	case s.broken:
	case s.owner == t && len(s.present) > 0 && s.present[0].mayTake():
		t.migrates = true
		return nil
	case s.owner != t && (s.estate == nil || len(s.present) > 0):
		return nil
	}
	if err := s.dev.Reset(); err != nil {
		return err
	}
	select { // a failure that came too late to end the session: the next one has nothing to do with it
	case <-s.dev.Failed():
	default:
	}
	s.broken = false
	s.pass(nil)
	s.before = nil
	return s.releaseEstate()
}

// bequeath is called after Reset with what releases all that the device was given for t. If the device has that still, it is
// released as soon as the front end that waits has taken the device, or has gone as well.
func (t *tenant) bequeath(release func() error) error {
	s := t.seat
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.owner != t:
		return release()
	case len(s.present) == 0: // whom it was left to has gone meanwhile
		if err := s.dev.Reset(); err != nil {
			return err
		}
		s.pass(nil)
		return release()
	}
	s.estate = release
	return nil
}
