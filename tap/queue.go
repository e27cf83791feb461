package tap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// tunPath is where TAP devices are made.
const tunPath = "/dev/net/tun"

// queue is one file descriptor of a TAP device. Its fields but fd are guarded by the device's mutex.
type queue struct {
	fd       int
	attached bool // the kernel steers frames to it
	wants    int  // offloads that its guest takes, as for TUNSETOFFLOAD
}

// tunFlags are what a device is opened with: Ethernet frames with a virtio-net header and nothing else before it.
func tunFlags(multi bool) uint16 {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	return flags
}

// openQueue opens one more queue of the device, which is created if there is none.
func openQueue(name string, multi bool) (*queue, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: tunPath, Err: err}
	}
	q := &queue{fd: fd}
	if err := q.join(name, multi); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return q, nil
}

// join makes q a queue of the device, attached. It also serves to join a device of the same name after the first one
// was deleted.
func (q *queue) join(name string, multi bool) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("TAP device %q: %w", name, err)
	}
	request.SetUint16(tunFlags(multi))
	if err := unix.IoctlIfreq(q.fd, unix.TUNSETIFF, request); err != nil {
		return os.NewSyscallError("TUNSETIFF", err)
	}
	q.attached = true
	return nil
}

// setUp sets what belongs to the device as a whole, through a queue that is attached.
func (q *queue) setUp() error {
	if err := unix.IoctlSetPointerInt(q.fd, unix.TUNSETVNETHDRSZ, vnet.HeaderLen); err != nil {
		return os.NewSyscallError("TUNSETVNETHDRSZ", err)
	}
	if err := unix.IoctlSetPointerInt(q.fd, unix.TUNSETVNETLE, 1); err != nil {
		return os.NewSyscallError("TUNSETVNETLE", err)
	}
	return nil
}

// attach makes the kernel steer frames to q again, and detach makes it stop; it also throws away what it has queued. A
// queue that is detached reports EPOLLERR for ever and can do nothing but be attached.
func (q *queue) attach() error { return q.switchTo(unix.IFF_ATTACH_QUEUE, true) }
func (q *queue) detach() error { return q.switchTo(unix.IFF_DETACH_QUEUE, false) }

func (q *queue) switchTo(flag uint16, attached bool) error {
	request, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	request.SetUint16(flag)
	if err := unix.IoctlIfreq(q.fd, unix.TUNSETQUEUE, request); err != nil {
		return os.NewSyscallError("TUNSETQUEUE", err)
	}
	q.attached = attached
	return nil
}

// setOffloads tells the kernel what it may leave undone on frames to the guest.
func (q *queue) setOffloads(offloads int) error {
	return os.NewSyscallError("TUNSETOFFLOAD", unix.IoctlSetInt(q.fd, unix.TUNSETOFFLOAD, offloads))
}

// setCarrier sets the device's carrier. Kernels before 4.20 do not have the call; there the carrier is always on.
func (q *queue) setCarrier(on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := unix.IoctlSetPointerInt(q.fd, unix.TUNSETCARRIER, value)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		return nil
	}
	return os.NewSyscallError("TUNSETCARRIER", err)
}

// knowsUSO asks the kernel whether it takes runs of UDP datagrams (Linux 6.2).
func (q *queue) knowsUSO() bool { return q.setOffloads(unix.TUN_F_CSUM|usoOffloads) == nil }
