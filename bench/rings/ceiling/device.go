package ceiling

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Mode is which rings move.
type Mode uint8

// The modes, named as those of "vring stub".
const (
	Null   Mode = iota // the transmit ring
	Source             // the receive ring
	Echo               // the receive ring by as much as the transmit ring
)

const (
	// burst is how many entries are moved at a time.
	burst = 64
	// share is how many times the rings are looked at before the session may change them.
	share = 64
)

// Device has one queue pair.
type Device struct {
	mode  Mode
	bytes uint32 // length of what is given back on the receive ring, with the header

	mu    sync.Mutex // of what follows
	mem   *guestmem.Table
	rings [2]*ring // receive, transmit; nil while stopped
	stop  bool
	done  chan struct{}
}

var _ vhostuser.Device = (*Device)(nil)

// New returns a device that polls on the given processor. Frames to the guest have frameLen bytes.
func New(mode Mode, frameLen, processor int) *Device {
	d := &Device{mode: mode, bytes: uint32(frameLen + vnet.HeaderLen), done: make(chan struct{})}
	go d.run(processor)
	return d
}

// Close ends the thread. The session must have ended.
func (d *Device) Close() {
	d.mu.Lock()
	d.stop = true
	d.mu.Unlock()
	<-d.done
}

func (d *Device) run(processor int) {
	defer close(d.done)
	runtime.LockOSThread() // and ends with the goroutine, since its processor was changed
	var set unix.CPUSet
	set.Set(processor)
	_ = unix.SchedSetaffinity(0, &set) // without, the figures are worse, and true
	for d.turns() {
	}
}

// turns looks at the rings for a while, and reports whether to go on.
func (d *Device) turns() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range share {
		d.turn()
	}
	return !d.stop
}

func (d *Device) turn() {
	rx, tx := d.rings[0], d.rings[1]
	if d.mode == Null && tx != nil {
		tx.moveSome(burst, 0)
	}
	if d.mode == Source && rx != nil {
		rx.moveSome(burst, d.bytes)
	}
	if d.mode == Echo && tx != nil && rx != nil {
		n := min(tx.available(), rx.available(), burst)
		rx.moveSome(n, d.bytes)
		tx.moveSome(n, 0)
	}
}

// moveSome moves what is available, up to max entries.
func (r *ring) moveSome(max int, bytes uint32) {
	if n := min(r.available(), max); n > 0 {
		r.move(n, bytes)
	}
}

// Features implements vhostuser.Device: those that make no difference to indexes.
func (d *Device) Features() uint64 {
	return vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureAnyLayout | vnet.FeatureInOrder
}

// QueuePairs implements vhostuser.Device.
func (d *Device) QueuePairs() int { return 1 }

// SetFeatures implements vhostuser.Device.
func (d *Device) SetFeatures(uint64) error { return nil }

// SetMemory implements vhostuser.Device. It comes while rings are stopped.
func (d *Device) SetMemory(t *guestmem.Table) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mem = t
	return nil
}

// StartRing implements vhostuser.Device.
func (d *Device) StartRing(i int, c virtqueue.Config, _ virtqueue.RingFDs) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := newRing(d.mem, c)
	if err != nil {
		return fmt.Errorf("ring %d: %w", i, err)
	}
	r.publish()
	d.rings[i] = r
	return nil
}

// StopRing implements vhostuser.Device.
func (d *Device) StopRing(i int) (state virtqueue.State, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	state = virtqueue.SplitState(d.rings[i].at)
	d.rings[i] = nil
	return state, nil
}

// EnableRing implements vhostuser.Device: a ring moves when it is started.
// SetLogging does nothing: no guest is migrated.
func (d *Device) SetLogging(int, virtqueue.Logging) error { return nil }

func (d *Device) EnableRing(int, bool) error { return nil }

// SetKick implements vhostuser.Device: it polls.
func (d *Device) SetKick(int, int) error { return nil }

// SetCall implements vhostuser.Device: front ends of benchmarks poll.
func (d *Device) SetCall(int, int) error { return nil }

// SetErr implements vhostuser.Device.
func (d *Device) SetErr(int, int) error { return nil }

// DriverReset implements vhostuser.Device.
func (d *Device) DriverReset() error { return nil }

// DriverGone implements vhostuser.Device.
func (d *Device) DriverGone() error { return nil }

// SetMTU implements vhostuser.Device.
func (d *Device) SetMTU(int) error { return nil }

// SendRARP implements vhostuser.Device.
func (d *Device) SendRARP([6]byte) error { return nil }

// Failed implements vhostuser.Device: nothing is checked.
func (d *Device) Failed() <-chan error { return nil }

// Reset implements vhostuser.Device.
func (d *Device) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rings, d.mem = [2]*ring{}, nil
	return nil
}
