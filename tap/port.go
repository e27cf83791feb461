package tap

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// largeFrame is an IP packet of 64 KiB behind an Ethernet header. A driver that takes segmentation offload has
	// buffers of one byte more, at least (virtio 1.2 section 5.1.6.3.1).
	largeFrame = 65535 + vnet.EthernetHeaderLen
	// maxFrame is the longest frame there is: two VLAN tags more.
	maxFrame = largeFrame + 2*vlanTagLen
)

// shortFrame is the length in bytes of the longest frame of the guest that is copied before it is sent. A frame of an
// Ethernet's usual MTU is one.
const shortFrame = 2048

// vlanTagLen is the length of an IEEE 802.1Q tag.
const vlanTagLen = 4

// reopenInterval is how often a Port looks for a device that was deleted, in nanoseconds.
const reopenInterval = int64(1e9)

// Counters are plain numbers of the worker's thread, since the Port was made. Frames and bytes are counted without
// virtio-net headers.
type Counters struct {
	Sent          uint64 `counter:"sent" help:"Frames of the guest that the kernel took."`
	SentBytes     uint64 `counter:"sent_bytes" unit:"bytes" help:"Bytes of frames that the kernel took, without virtio-net headers."`
	Received      uint64 `counter:"received" help:"Frames that the guest got."`
	ReceivedBytes uint64 `counter:"received_bytes" unit:"bytes" help:"Bytes of frames that the guest got, without virtio-net headers."`

	BadHeaders  uint64 `counter:"bad_headers" kind:"drop" help:"Malformed chains of the guest, and its frames with a virtio-net header that lies."`
	Detached    uint64 `counter:"detached" kind:"drop" help:"Frames of the guest while no queue was attached: its receive ring is off, or the device is gone."`
	Down        uint64 `counter:"down" kind:"drop" help:"Frames of the guest while the device was down (EIO)."`
	Refused     uint64 `counter:"refused" kind:"drop" help:"Frames of the guest that the kernel did not want (EINVAL)."`
	NoMemory    uint64 `counter:"no_memory" kind:"drop" help:"Frames of the guest for which the kernel had no memory (ENOBUFS, ENOMEM)."`
	Full        uint64 `counter:"full" help:"Times that the kernel could take no more, and a frame waited in the ring (EAGAIN)."`
	TooLong     uint64 `counter:"too_long" kind:"drop" help:"Frames to the guest that were longer than its buffers."`
	NotAccepted uint64 `counter:"not_accepted" kind:"drop" help:"Frames to the guest with an offload that it does not take."`
	ReadErrors  uint64 `counter:"read_errors" kind:"drop" help:"Frames to the guest that could not be read."`
	Respilled   uint64 `counter:"respilled" help:"Frames to the guest that were longer than expected: copied twice, not lost."`
}

// Port is one queue of a TAP device. It implements netbackend.Port.
type Port struct {
	device    *Device
	queue     *queue
	index     int // of the queue pair
	worker    netbackend.Worker
	features  uint64
	headerLen int
	counters  Counters

	attached bool // the queue is, and its fd is registered
	readable bool // a read may bring something
	full     bool // the kernel can take no more
	gone     bool // somebody deleted the device
	down     bool // the device is down, and it was told
	wanted   bool // the guest's receive ring is on
	owed     announcement
	retry    int64

	receiver
	sent [vnet.HeaderLen + shortFrame]byte // header for the kernel, and behind it a short frame
	// heads is room for the beginning of a frame from the guest, with the headers that are looked at.
	heads [vnet.HeaderLen + vnet.EthernetHeaderLen + 2*vlanTagLen]byte
	iov   [maxPieces]guestmem.Iovec
}

// maxPieces is what the kernel takes in one call (UIO_MAXIOV).
const maxPieces = 1024

var _ netbackend.Port = (*Port)(nil)

func newPort(d *Device, index int, q *queue) *Port {
	return &Port{device: d, index: index, queue: q, receiver: newReceiver()}
}

// Offers implements netbackend.Port.
func (p *Port) Offers() uint64 { return offered(p.device.uso) }

// Counters returns what was counted so far. It is for the worker's thread, or for anybody after Close.
func (p *Port) Counters() Counters { return p.counters }

// Start implements netbackend.Port.
func (p *Port) Start(features uint64, w netbackend.Worker) error {
	p.features, p.headerLen, p.worker = features, vnet.HeaderLength(features), w
	p.forget()
	if features == 0 { // a session has ended
		p.owed = announcement{}
	}
	if p.attached {
		return p.device.want(p.queue, p.offloads())
	}
	return nil
}

// RingsChanged implements netbackend.Port.
func (p *Port) RingsChanged(s netbackend.RingState) {
	p.wanted = s.Receive
	p.drop()                        // its buffers may be others' by now
	if s.MTU == 0 && p.index == 0 { // a front end tells it before it hands over its memory
		p.device.resetMTU()
	}
	if s.Restarted {
		p.forget()
	}
	switch {
	case p.wanted && !p.attached && !p.gone:
		p.attach()
	case !p.wanted && p.attached:
		p.detach()
	}
}

// attach lets frames come. A queue that cannot be attached belongs to a device that was deleted.
func (p *Port) attach() {
	if err := p.device.bring(p.queue, p.offloads()); err != nil {
		p.lose(err)
		return
	}
	if err := p.worker.Register(p.queue.fd, 0); err != nil {
		p.raise(slog.LevelError, "the TAP device cannot be watched", "err", err.Error())
		return
	}
	p.attached, p.readable, p.full = true, true, false
	if !p.device.multi {
		p.discard()
	}
	p.payAnnouncement()
}

// discard throws away what a queue that cannot be detached has gathered while nobody was there.
func (p *Port) discard() {
	const most = 10_000
	for range most {
		if _, errno := guestmem.Readv(p.queue.fd, p.onlySpill()); errno != 0 {
			return
		}
	}
}

// detach keeps frames away. The fd leaves the epoll set first, since a detached queue reports an error for ever.
func (p *Port) detach() {
	p.worker.Unregister(p.queue.fd)
	p.attached = false
	if err := p.device.leave(p.queue); err != nil && !p.gone {
		p.lose(err)
	}
}

// Close implements netbackend.Port.
func (p *Port) Close() error {
	if p.attached {
		p.detach()
	}
	return p.device.shut(p.queue)
}

// Turn implements netbackend.Port.
func (p *Port) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	p.notice(events)
	if p.gone {
		p.find(now)
	}
	done = p.transmit(tx)
	next = p.receive(now, rx)
	if p.gone && p.device.cfg.Reopen {
		next = netbackend.Earlier(next, max(p.retry, now)) // at once, if it was lost in this turn
	}
	return done, next
}

// notice takes the readiness of the queue as bits.
func (p *Port) notice(events []netbackend.Event) {
	for _, e := range events {
		if e.Events&unix.EPOLLIN != 0 {
			p.readable = true
		}
		if e.Events&unix.EPOLLOUT != 0 {
			p.full = false
		}
		if e.Events&unix.EPOLLERR != 0 && p.attached {
			p.lose(errDeleted)
		}
	}
}

// lose is that the device is gone.
func (p *Port) lose(err error) {
	if p.gone {
		return
	}
	p.gone, p.retry = true, 0
	if p.attached {
		p.worker.Unregister(p.queue.fd)
		p.attached = false
	}
	p.device.abandon(p.queue, err)
	if p.device.cfg.Reopen {
		p.raise(slog.LevelWarn, "the TAP device was deleted; waiting for it to come back", "tap", p.device.cfg.Name)
	}
}

// find looks, at most once in reopenInterval, whether there is a device of the name again.
func (p *Port) find(now int64) {
	if !p.device.cfg.Reopen || now < p.retry {
		return
	}
	p.retry = now + reopenInterval
	if err := p.device.rejoin(p.queue); err != nil {
		return
	}
	p.gone = false
	p.raise(slog.LevelInfo, "the TAP device is back", "tap", p.device.cfg.Name)
	if p.wanted {
		p.attach()
	}
}

func (p *Port) raise(level slog.Level, message, key, value string) {
	p.worker.Raise(netbackend.Notice{Level: int(level), Message: message, Key: key, Value: value})
}

// failed deals with an error of the kernel that has nothing to do with the frame. It returns false for any other.
func (p *Port) failed(errno unix.Errno) bool {
	switch errno {
	case unix.EBADFD: // the queue is no queue of any device
		p.lose(errDeleted)
	case unix.EFAULT:
		p.worker.Fault(errno)
	default:
		return false
	}
	return true
}
