package tap

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is a TAP device that serves one guest.
type Device struct {
	cfg     Config
	multi   bool // it was made with several queues, or such that it can have them
	uso     bool // the kernel knows USO
	changes Changes
	ports   []*Port
	lost    chan error
	probe   int           // socket to ask for interfaces by, -1 for none
	admin   Administrator // nil for nobody

	mu       sync.Mutex // guards what follows, and the queues
	queues   []*queue
	offloads int  // as the kernel knows them
	index    int  // of the interface
	asked    bool // by a guest, for another MTU
	before   int  // MTU until then
	mtu      atomic.Int32
}

// Open opens the TAP device that cfg describes, in the network namespace of the calling thread, and connects it. The
// device has no carrier until a guest is there. After an error nothing is left behind.
func Open(cfg Config) (*Device, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	d := &Device{cfg: cfg, multi: true, lost: make(chan error, 1), probe: -1}
	before, err := d.openAlone()
	if err != nil {
		return nil, err
	}
	d.changes, err = connect(&cfg, before == nil)
	if err != nil {
		return nil, explain(&cfg, before, errors.Join(err, d.Close(), d.changes.Undo()))
	}
	link, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return nil, errors.Join(err, d.Close(), d.changes.Undo())
	}
	d.index = link.Attrs().Index
	d.mtu.Store(int32(link.Attrs().MTU))
	for i, q := range d.queues {
		d.ports = append(d.ports, newPort(d, i, q))
	}
	return d, nil
}

// openAlone opens a device that nobody else uses, and returns the interface that had the name before, nil if there was
// none. The kernel would make two processes that use several queues share one device.
func (d *Device) openAlone() (before *netlink.Tuntap, err error) {
	defer lock(d.cfg.Name)()
	before, err = d.examine()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(d.open(), d.openProbe()); err != nil {
		return nil, explain(&d.cfg, before, errors.Join(err, d.Close()))
	}
	return before, nil
}

// examine looks at an interface that has the name already, nil if there is none.
// One that is in use is waited for a little: the kernel takes a moment to end a process that was killed.
func (d *Device) examine() (*netlink.Tuntap, error) {
	const patience, pause = 2 * time.Second, 10 * time.Millisecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		tuntap, err := d.look()
		if err != nil || tuntap == nil || tuntap.Queues+tuntap.DisabledQueues == 0 {
			return tuntap, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("TAP device %s is used by another process: %w", d.cfg.Name, unix.EBUSY)
		}
	}
}

func (d *Device) look() (*netlink.Tuntap, error) {
	link, err := netlink.LinkByName(d.cfg.Name)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("TAP device %s: %w", d.cfg.Name, err)
	}
	tuntap, ok := link.(*netlink.Tuntap)
	if !ok || tuntap.Mode != netlink.TUNTAP_MODE_TAP {
		return nil, fmt.Errorf("%s is an interface already, of type %s and not a TAP device", d.cfg.Name, link.Type())
	}
	d.multi = tuntap.Flags&netlink.TUNTAP_MULTI_QUEUE != 0
	if !d.multi && d.cfg.Queues > 1 {
		return nil, fmt.Errorf("TAP device %s was made with one queue only: make it with multi_queue, or use one queue", d.cfg.Name)
	}
	return tuntap, nil
}

// open opens the queues, finds out what the kernel can do, and leaves the device silent.
func (d *Device) open() error {
	for range d.cfg.Queues {
		q, err := openQueue(d.cfg.Name, d.multi)
		if err != nil {
			return err
		}
		d.queues = append(d.queues, q)
	}
	first := d.queues[0]
	d.uso = first.knowsUSO()
	return errors.Join(first.setUp(), d.silence())
}

// silence takes the carrier away and detaches all queues that can be.
func (d *Device) silence() error {
	first := d.queues[0]
	err := errors.Join(first.setOffloads(0), first.setCarrier(false))
	d.offloads = 0
	for _, q := range d.queues {
		err = errors.Join(err, d.release(q))
	}
	return err
}

// release detaches q. On a device of one queue that the kernel cannot detach it counts as detached all the same.
func (d *Device) release(q *queue) error {
	if d.multi {
		return q.detach()
	}
	q.attached = false
	return nil
}

// Name returns the name of the device.
func (d *Device) Name() string { return d.cfg.Name }

// MTU returns the device's MTU in bytes, as far as it is known here.
func (d *Device) MTU() int { return int(d.mtu.Load()) }

// Ports returns a Port for each queue, in the order of the guest's queue pairs. They must all be closed.
func (d *Device) Ports() []*Port { return d.ports }

// Changes returns what was changed for the device and does not go away with it.
func (d *Device) Changes() Changes { return d.changes }

// Administrate names who is asked for what needs rights from now on. It is called before a Port is used.
func (d *Device) Administrate(a Administrator) { d.admin = a }

// Lost delivers the reason why the device is of no use any more: somebody deleted it.
func (d *Device) Lost() <-chan error { return d.lost }

// Close closes all queues, for a device whose Ports were not given to anybody. A device that was created goes away.
func (d *Device) Close() error {
	var err error
	for _, q := range d.queues {
		err = errors.Join(err, d.shut(q))
	}
	return err
}

// bring attaches q for a guest that takes the given offloads, and gives the device its carrier.
func (d *Device) bring(q *queue, wants int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.multi {
		if err := q.attach(); err != nil {
			return err
		}
	}
	q.attached, q.wants = true, wants
	return errors.Join(d.agree(), q.setCarrier(true))
}

// leave detaches q. The carrier goes with the last one.
func (d *Device) leave(q *queue) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.attached() == 1 {
		err = q.setCarrier(false)
	}
	return errors.Join(err, d.release(q), d.agree())
}

// want changes the offloads that q's guest takes, while it is attached.
func (d *Device) want(q *queue, wants int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q.wants = wants
	return d.agree()
}

// agree sets the offloads that the guests of all attached queues take: they are the device's, not a queue's.
func (d *Device) agree() error {
	offloads := ^0
	var any *queue
	for _, q := range d.queues {
		if q.attached {
			offloads, any = offloads&q.wants, q
		}
	}
	if any == nil || offloads == d.offloads {
		return nil
	}
	if err := any.setOffloads(offloads); err != nil {
		return err
	}
	d.offloads = offloads
	return nil
}

func (d *Device) attached() (n int) {
	for _, q := range d.queues {
		if q.attached {
			n++
		}
	}
	return n
}

// shut closes q for good.
func (d *Device) shut(q *queue) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q.attached = false
	err := closeFD(&q.fd)
	if !slices.ContainsFunc(d.queues, func(q *queue) bool { return q.fd >= 0 }) {
		err = errors.Join(err, closeFD(&d.probe))
	}
	return err
}

func closeFD(fd *int) error {
	if *fd < 0 {
		return nil
	}
	old := *fd
	*fd = -1
	return unix.Close(old)
}
