package tap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openProbe opens a socket to ask for interfaces by, if that will be needed: later none may be made. It is half of a pair,
// for which there is no way to be connected to anything else.
func (d *Device) openProbe() error {
	if !d.cfg.Reopen {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	d.probe = pair[0]
	return unix.Close(pair[1])
}

// abandon is that q's device was deleted.
func (d *Device) abandon(q *queue, reason error) {
	d.mu.Lock()
	q.attached = false
	d.mu.Unlock()
	d.lose(reason)
}

// rejoin makes q a queue of a new device of the same name, detached, if there is one. The first queue to do so has the
// device set up.
func (d *Device) rejoin(q *queue) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// To join a device that does not exist would create it.
	index, err := d.ask(unix.SIOCGIFINDEX)
	if err != nil {
		return err
	}
	if err := d.joinAgain(q); err != nil {
		return err
	}
	if index != d.index {
		d.index, d.offloads = index, -1 // what they are nobody knows
		err = errors.Join(q.setUp(), q.setCarrier(false), d.reconnect())
	}
	return errors.Join(err, d.release(q))
}

// joinAgain joins a device that need not be of the kind of the one before, if there is only one queue.
func (d *Device) joinAgain(q *queue) error {
	err := q.join(d.cfg.Name, d.multi)
	if errors.Is(err, unix.EINVAL) && len(d.queues) == 1 {
		d.multi = !d.multi
		err = q.join(d.cfg.Name, d.multi)
	}
	return err
}

// reconnect has the device set up as the first one was, if there is anybody with the right to do so. Otherwise it is for
// whoever made it.
func (d *Device) reconnect() error {
	var err error
	if d.admin != nil {
		err = d.admin.Connect(d.cfg.Name)
	}
	mtu, failed := d.ask(unix.SIOCGIFMTU)
	if failed == nil {
		d.asked = false
		d.mtu.Store(int32(mtu))
	}
	return errors.Join(err, failed)
}

// ask asks the kernel for a number of the interface.
func (d *Device) ask(request uint) (int, error) {
	ifreq, err := unix.NewIfreq(d.cfg.Name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(d.probe, request, ifreq); err != nil {
		return 0, fmt.Errorf("interface %s: %w", d.cfg.Name, err)
	}
	return int(ifreq.Uint32()), nil
}
