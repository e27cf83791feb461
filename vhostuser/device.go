package vhostuser

import (
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Device is the data path that a session drives: queue pairs whose rings are numbered as in virtio 1.2 section 5.1.2,
// 2i for the receive queue of pair i (frames to the guest) and 2i+1 for its transmit queue.
//
// All calls but Failed come from one goroutine, one at a time. Each returns when it has taken effect on the data path,
// or within about a second with an error. An error of a call that starts, stops, or replaces something means that the
// data path's state is unknown: the session ends, and keeps its file descriptors and memory until Reset returns nil.
// SetFeatures, SetMTU and SendRARP may refuse what is asked for; then nothing has changed.
//
// File descriptors are borrowed. They are non-blocking, and stay open until a call that takes them out of use (StopRing,
// SetKick, SetCall, SetErr, Reset) has returned nil.
type Device interface {
	// Features returns the virtio feature bits that the device can honour, without bit 30, which the session adds. It
	// may change between sessions, not within one.
	Features() uint64

	// QueuePairs returns the number of queue pairs, 1 to 128. It does not change.
	QueuePairs() int

	// SetFeatures tells what the driver acknowledged, always a subset of Features. No ring is running.
	SetFeatures(f uint64) error

	// SetMemory replaces guest memory, also under running rings: all their areas lie within t. With nil returned nobody
	// uses the previous table any more. A nil t takes the memory away; no ring is running then.
	SetMemory(t *guestmem.Table) error

	// StartRing begins to serve ring i, which is stopped. The configuration was checked against the current memory with
	// [virtqueue.Config.Check].
	StartRing(i int, r virtqueue.Config, fds virtqueue.RingFDs) error

	// StopRing ends the service of ring i, which is running, and returns where it stands. Used entries are published and the
	// driver is notified before it returns.
	StopRing(i int) (state virtqueue.State, err error)

	// EnableRing lets ring i carry frames, or not. It is remembered while the ring is stopped, and may come before
	// StartRing. Rings are not enabled when a session begins. A transmit ring that was not enabled yet since StartRing keeps
	// its frames; one that is disabled while it runs drops them, those that come later too.
	EnableRing(i int, on bool) error

	// SetKick, SetCall and SetErr replace one descriptor of ring i, which is running; -1 takes it away. See
	// [virtqueue.RingFDs] for their meaning.
	SetKick(i, fd int) error
	SetCall(i, fd int) error
	SetErr(i, fd int) error

	// SetLogging says what is marked in the dirty log of ring i, which is running, from now on, in the place of what the ring was
	// started with. With nil returned nobody uses the previous log of the ring any more. A fault in a log is one in guest
	// memory.
	SetLogging(i int, l virtqueue.Logging) error

	// DriverReset tells that the guest's driver has reset its device: the features are forgotten, and whatever was learned
	// of the guest is of the past. All rings are stopped and disabled; the memory stays. Front ends that cannot tell
	// (RESET_DEVICE) just stop the rings, which a pause of the guest does as well.
	DriverReset() error

	// DriverGone tells that the driver seems to have reset its device, by what a front end does that sends no RESET_DEVICE.
	// Nothing of the rings has changed, and a ring that starts shows that a driver is there.
	DriverGone() error

	// SetMTU tells the guest's MTU in bytes, 68 to 65535 (NET_SET_MTU).
	SetMTU(mtu int) error

	// SendRARP asks for a reverse ARP frame that tells the network where mac is now: the guest was migrated here.
	SendRARP(mac [6]byte) error

	// Failed delivers the reason why the data path gave this session's guest up, such as a fault in guest memory. The
	// session ends. A ring that its driver has broken is no such reason: it is out of service until it is stopped and
	// started again, its error descriptor was signalled, and StopRing answers where it stands. Failed may be called at any
	// time, and always returns the same channel.
	Failed() <-chan error

	// Reset ends a session: it stops and disables all rings and forgets their descriptors, the features and the memory. An
	// error means that a thread still uses something of the session; Reset is then called again until it returns nil.
	Reset() error
}
