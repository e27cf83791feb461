package framesocket

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/driver"
	"github.com/vringnet/vring/virtqueue/guestmem"
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

	// txChains is how many frames of the guest the transmit ring holds. Each has two descriptors.
	txChains = 256
	// rxBuffers is how many buffers the receive ring has, of rxBuffer bytes each: one for a frame of an MTU of up to 4000 bytes, and 16 for the
	// longest. Their distance is no multiple of a page, so that headers are not all in the same lines of a cache.
	rxBuffers = 256
	rxBuffer  = 4096 + 64
	// inboxSize is how many bytes are read from a stream at once: a little more than a socket holds by default.
	inboxSize = 256 << 10
	// slotSize is where a packet goes, and slots how many are received at once.
	slotSize = MaxFrame + 64
	slots    = 64

	// base is where the device has the memory, as a guest and as a front end would.
	base = 1 << 20
)

// errFrame is a front end whose frames cannot be told apart any more.
type errFrame uint32

func (e errFrame) Error() string {
	return fmt.Sprintf("a frame of %d bytes was announced, and %d is the most: the front end speaks another protocol, or is out of step", uint32(e), MaxFrame)
}

// pair are the rings of a guest with their buffers, which live as long as its Server.
type pair struct {
	memory []byte
	table  *guestmem.Table // of memory
	host   uintptr         // where memory begins
	tx, rx *driver.Queue
	input  int // where in memory input goes
	output int // where the receive buffers are
}

// newPair makes rings. inputSize is how many bytes of input there are at a time.
func newPair(inputSize int) *pair {
	const align = 4096
	up := func(n int) int { return (n + align - 1) &^ (align - 1) }
	txAt := align // behind the headers
	rxAt := txAt + up(driver.Bytes(2*txChains))
	p := &pair{output: rxAt + up(driver.Bytes(rxBuffers))}
	p.input = p.output + up(rxBuffers*rxBuffer)
	p.memory = aligned(p.input+inputSize, align)
	p.host = address(p.memory)
	p.table = guestmem.NewHeap(guestmem.HeapRegion{GPA: base, UVA: base, Mem: p.memory})
	p.tx = driver.New(2*txChains, p.memory[txAt:], guestmem.UVA(base+txAt))
	p.rx = driver.New(rxBuffers, p.memory[rxAt:], guestmem.UVA(base+rxAt))
	for i := range uint16(txChains) {
		p.tx.Reads(2*i, base, vnet.HeaderLen, true)
	}
	for i := range uint16(rxBuffers) {
		p.rx.Writes(i, guestmem.GPA(base+p.buffer(i)), rxBuffer)
	}
	return p
}

// restart makes rings of it that no device has seen, with all receive buffers available.
func (p *pair) restart() {
	p.tx.Restart()
	p.rx.Restart()
	for i := range uint16(rxBuffers) {
		p.rx.Add(i)
	}
	p.rx.Publish()
}

// buffer is where receive buffer i is in memory.
func (p *pair) buffer(i uint16) int { return p.output + int(i)*rxBuffer }

// ring describes ring i to a device: 0 is the receive ring, 1 the transmit ring.
func (p *pair) ring(i int) virtqueue.Config {
	if i == 0 {
		return p.rx.Config()
	}
	return p.tx.Config()
}

// framing is how a socket has frames. Its methods are called on the device's thread.
type framing interface {
	// receive makes frames that have come available, as many as there is room for, and reports whether more of them may be had at once.
	receive(d *frames) (more bool, err error)
	// send sends what is used in the receive ring. It clears frames.writable when the socket takes no more.
	send(d *frames) error
	// restart forgets the last connection.
	restart()
}

// frames moves frames between a guest's rings and the socket of its front end. It is the netbackend.Driver of both.
type frames struct {
	*pair
	fd       int
	framing  framing
	readable bool // as far as known
	ending   bool // the end is behind what can be read, and no other event tells of it
	writable bool
	more     bool // more frames may be had at once,
	waits    bool // but not before the device has used all that there are
	over     bool // the connection has ended
	added    uint16
	nextTX   uint16 // the chain of the transmit ring that is to be added next
	counters netbackend.FrontEndCounters
	ended    chan error // is told once that a connection is over, nil if the front end has hung up
}

func newFrames(f Framing) *frames {
	d := &frames{fd: -1, ended: make(chan error, 1)}
	if f == Stream {
		d.pair, d.framing = newPair(inboxSize), newStream()
		return d
	}
	d.pair, d.framing = newPair(slots*slotSize), newPackets(f)
	return d
}

// begin readies it for a connection. The device does not have it.
func (d *frames) begin(fd int) {
	d.pair.restart()
	d.framing.restart()
	d.fd, d.readable, d.writable, d.more, d.over = fd, true, true, false, false
	d.ending = false
	d.added, d.nextTX = 0, 0
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
	d.reclaim()
	d.receive()
	filled = d.added > 0
	if filled {
		d.tx.Publish()
		d.added = 0
	}
	return filled
}

// Drain implements netbackend.Driver.
func (d *frames) Drain() (more bool) {
	d.reclaim()
	d.send()
	return d.more && d.room() > 0 && (!d.waits || d.tx.Outstanding() == 0)
}

// reclaim takes back chains of the transmit ring that the device has used.
func (d *frames) reclaim() {
	if n := d.tx.Used(); n > 0 {
		d.tx.Next(n)
	}
}

// room is how many chains can be added to the transmit ring.
func (d *frames) room() int { return txChains - d.tx.Outstanding() }

// add makes n bytes of memory, off bytes into it, a frame of the guest. There must be room.
func (d *frames) add(off, n int) {
	i := 2 * (d.nextTX % txChains)
	d.tx.Reads(i+1, guestmem.GPA(base+off), uint32(n), false)
	d.tx.Add(i)
	d.nextTX++
	d.added++
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

// iovec is n bytes of memory, off bytes into it.
func (d *frames) iovec(off, n int) guestmem.Iovec {
	return guestmem.Iovec{Base: d.host + uintptr(off), Len: uint64(n)}
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

// frameIn looks at the frame that begins at used element i of the receive ring. It returns how many elements it fills, and its length
// without the header.
func (d *frames) frameIn(i int) (buffers, length int) {
	head, written := d.rx.Peek(i)
	at := d.buffer(head)
	buffers = int(d.memory[at+10]) | int(d.memory[at+11])<<8
	length = int(written) - vnet.HeaderLen
	for k := 1; k < buffers; k++ {
		_, written := d.rx.Peek(i + k)
		length += int(written)
	}
	return buffers, length
}

// repost makes the n oldest used receive buffers available again.
func (d *frames) repost(n int) {
	for i := range n {
		head, _ := d.rx.Peek(i)
		d.rx.Add(head)
	}
	d.rx.Next(n)
	d.rx.Publish()
}
