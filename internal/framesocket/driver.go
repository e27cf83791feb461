package framesocket

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/ownrings"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// MaxFrame is the longest frame in bytes that a front end may send: what QEMU has room for (NET_BUFSIZE).
	MaxFrame = 4096 + 65536
	// minFrame is the length of an Ethernet header in bytes.
	minFrame = 14
	// lengthLen is the length in bytes of a frame's length in a stream.
	lengthLen = 4

	// features are what the driver acknowledges: frames come and go whole, with their checksums.
	features = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf

	// inboxSize is how many bytes are read from a stream at once: a little more than a socket holds by default.
	inboxSize = 256 << 10
	// outboxSize is how many bytes may wait in a stream's socket for the front end: what the Port gives a guest in a turn or two, so that it leaves
	// by one call. The kernel doubles it for what it needs itself, and net.core.wmem_max bounds it.
	outboxSize = 1 << 20
	// slotSize is where a packet goes, and slots how many are received at once.
	slotSize = MaxFrame + 64
	slots    = 64
)

// errFrame is a front end whose frames cannot be told apart any more.
type errFrame uint32

func (e errFrame) Error() string {
	return fmt.Sprintf("a frame of %d bytes was announced, and %d is the most: the front end speaks another protocol, or is out of step", uint32(e), MaxFrame)
}

// framing is how a socket has frames. Its methods are called on the device's thread.
type framing interface {
	// receive makes frames that have come available, as many as there is room for, and reports whether more of them may be had at once.
	receive(d *frames) (more bool, err error)
	// send sends what is used in the receive ring. It clears frames.writable when the socket takes no more.
	send(d *frames) error
	// restart forgets the last connection, and readies the socket of a new one.
	restart(fd int)
}

// frames moves frames between a guest's rings and the socket of its front end. It is the netbackend.Driver of both.
type frames struct {
	*ownrings.Rings
	fd       int
	framing  framing
	readable bool // as far as known
	ending   bool // the end is behind what can be read, and no other event tells of it
	writable bool
	more     bool // more frames may be had at once,
	waits    bool // but not before the device has used all that there are
	over     bool // the connection has ended
	counters netbackend.FrontEndCounters
	ended    chan error // is told once that a connection is over, nil if the front end has hung up
}

func newFrames(f Framing) *frames {
	d := &frames{fd: -1, ended: make(chan error, 1)}
	if f == Stream {
		d.Rings, d.framing = ownrings.New(inboxSize), newStream()
		return d
	}
	d.Rings, d.framing = ownrings.New(slots*slotSize), newPackets(f)
	return d
}

// begin readies it for a connection. The device does not have it.
func (d *frames) begin(fd int) {
	d.Restart()
	d.framing.restart(fd)
	d.fd, d.readable, d.writable, d.more, d.over = fd, true, true, false, false
	d.ending = false
	select {
	case <-d.ended:
	default:
	}
}

// FD implements netbackend.Driver.
func (d *frames) FD() int { return d.fd }

// Full implements netbackend.Driver.
func (d *frames) Full() bool { return !d.writable }

// Counters implements netbackend.Driver.
func (d *frames) Counters() netbackend.FrontEndCounters { return d.counters }

// Fill implements netbackend.Driver.
func (d *frames) Fill(events uint32) (filled bool) {
	if events&^uint32(unix.EPOLLOUT) != 0 {
		d.readable = true
		d.ending = d.ending || events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	}
	if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 && !d.writable {
		d.writable = true
		d.send()
	}
	d.Reclaim()
	d.receive()
	return d.Publish()
}

// Drain implements netbackend.Driver.
func (d *frames) Drain() (more bool) {
	d.Reclaim()
	d.send()
	return d.more && d.Room() > 0 && (!d.waits || d.Outstanding() == 0)
}

func (d *frames) receive() {
	d.more, d.waits = false, false
	if d.over {
		return
	}
	more, err := d.framing.receive(d)
	d.more = more
	d.check(err)
}

func (d *frames) send() {
	if d.over || !d.writable {
		return
	}
	d.check(d.framing.send(d))
}

// cameShort notes that less could be read than there was room for: that was all, and more of it is an event.
func (d *frames) cameShort() { d.readable = d.ending }

// check ends the connection if there is an error.
func (d *frames) check(err error) {
	if err == nil || d.over {
		return
	}
	d.over, d.more = true, false
	for _, hungUp := range []error{io.EOF, unix.EPIPE, unix.ECONNRESET, unix.ECONNREFUSED, unix.ENOTCONN} {
		if errors.Is(err, hungUp) {
			err = nil
		}
	}
	select {
	case d.ended <- err:
	default:
	}
}
