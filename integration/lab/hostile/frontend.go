package hostile

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

const (
	ringSize   = 256
	bufferSize = 2048
)

// MemorySize is what a guest has, in bytes.
const MemorySize = 4 << 20

// Rings of a network card with one queue pair.
const (
	ReceiveRing  = 0
	TransmitRing = 1
)

// FrontEnd is a front end and its guest.
type FrontEnd struct {
	*frontend.Conn // nil before Connect
	Memory         *vqtest.Memory
	Receive        *vqtest.Driver
	Transmit       *vqtest.Driver
	Setup          frontend.Setup

	buffers map[uint16]vqtest.Buf // of the receive ring, by head
	request vqtest.Buf            // an echo request, header and frame
	fds     []int
}

// New makes a guest with an address, that is not connected to a network yet.
func New(guest netip.Addr) *FrontEnd { return NewOn(vqtest.NewMemory(MemorySize, vqtest.Memfd), guest) }

// NewOn is New with the guest's memory, of MemorySize bytes, which belongs to the guest from now on.
func NewOn(memory *vqtest.Memory, guest netip.Addr) *FrontEnd {
	f := &FrontEnd{Memory: memory, buffers: map[uint16]vqtest.Buf{}}
	opt := vqtest.Options{Size: ringSize, EventIdx: true}
	f.Receive, f.Transmit = vqtest.NewDriver(f.Memory, opt), vqtest.NewDriver(f.Memory, opt)
	f.Setup = frontend.Setup{
		Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureEventIdx,
		Memory:   f.Memory.Regions(),
		Rings:    []frontend.Ring{f.ring(f.Receive), f.ring(f.Transmit)},
	}
	f.request = f.place(append(make([]byte, vnet.HeaderLen), echoRequest(guest)...))
	return f
}

// ring describes a ring, with eventfds of its own.
func (f *FrontEnd) ring(d *vqtest.Driver) frontend.Ring {
	cfg := d.Layout()
	return frontend.Ring{
		Num: uint32(cfg.Size), Desc: cfg.Desc, Avail: cfg.Avail, Used: cfg.Used,
		KickFD: f.eventfd(), CallFD: f.eventfd(), ErrFD: f.eventfd(),
	}
}

func (f *FrontEnd) eventfd() int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		panic(err)
	}
	f.fds = append(f.fds, fd)
	return fd
}

// place puts bytes into guest memory.
func (f *FrontEnd) place(b []byte) vqtest.Buf {
	at := f.Memory.Alloc(len(b), 16)
	f.Memory.Write(at, b)
	return vqtest.Buf{GPA: at, Len: uint32(len(b))}
}

// Connect brings the device up on a back end's socket, as QEMU does.
func (f *FrontEnd) Connect(path string) error {
	var err error
	if f.Conn, err = frontend.Dial(path); err != nil {
		return err
	}
	if err := f.Conn.Setup(f.Setup); err != nil {
		return errors.Join(err, f.Hangup())
	}
	_, err = f.GetFeatures() // everything before has been done
	return err
}

// Hangup ends the connection; the guest goes on.
func (f *FrontEnd) Hangup() error {
	if f.Conn == nil {
		return nil
	}
	return f.Conn.Close()
}

// Close ends the connection and the guest.
func (f *FrontEnd) Close() {
	_ = f.Hangup()
	f.Memory.Close()
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
}

// Kick tells the back end to look at a ring.
func (f *FrontEnd) Kick(ring int) { add(f.Setup.Rings[ring].KickFD, 1) }

// add adds to the counter of an eventfd.
func add(fd int, n uint64) {
	b := [8]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), byte(n >> 32), byte(n >> 40), byte(n >> 48), byte(n >> 56)}
	_, _ = unix.Write(fd, b[:])
}

// FillCalls fills what the back end writes to, and makes it wait there: O_NONBLOCK is the file's, and so shared.
func (f *FrontEnd) FillCalls() {
	const most = 1<<64 - 2
	for _, r := range f.Setup.Rings {
		for _, fd := range []int{r.CallFD, r.ErrFD} {
			_, _ = unix.Read(fd, make([]byte, 8))
			add(fd, most)
			_ = unix.SetNonblock(fd, false)
		}
	}
}

// Flood sends echo requests for some time, as fast as the back end takes them, and throws its answers away. It returns
// how many were taken.
func (f *FrontEnd) Flood(d time.Duration) (taken int) {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); {
		taken += f.step()
	}
	return taken
}

// step fills both rings, and returns how many frames came back as sent.
func (f *FrontEnd) step() (taken int) {
	f.post(nil)
	for _, _, ok := f.Transmit.Used(); ok; _, _, ok = f.Transmit.Used() {
		taken++
	}
	for f.Transmit.Free() > 0 {
		f.Transmit.Add(f.request)
	}
	if f.Transmit.Publish() {
		f.Kick(TransmitRing)
	}
	return taken
}

// post takes what has come, tells of each frame, and posts the buffers again; at first, new ones.
func (f *FrontEnd) post(received func(frame []byte)) {
	for head, n, ok := f.Receive.Used(); ok; head, n, ok = f.Receive.Used() {
		b := f.buffers[head]
		if received != nil && n > vnet.HeaderLen {
			received(f.Memory.Bytes(b.GPA, int(n))[vnet.HeaderLen:])
		}
		f.postOne(b)
	}
	for f.Receive.Free() > 0 {
		f.postOne(vqtest.Buf{GPA: f.Memory.Alloc(bufferSize, 16), Len: bufferSize, Write: true})
	}
	if f.Receive.Publish() {
		f.Kick(ReceiveRing)
	}
}

func (f *FrontEnd) postOne(b vqtest.Buf) {
	if head, ok := f.Receive.Add(b); ok {
		f.buffers[head] = b
	}
}

// ErrNoAnswer tells that the router did not answer in time.
var ErrNoAnswer = errors.New("the router does not answer")

// Ping asks the router for an echo, and waits for the answer.
func (f *FrontEnd) Ping(limit time.Duration) (time.Duration, error) {
	f.post(nil)
	for _, _, ok := f.Transmit.Used(); ok; _, _, ok = f.Transmit.Used() {
	}
	if _, ok := f.Transmit.Add(f.request); !ok {
		return 0, errors.New("the transmit ring is full")
	}
	begin := time.Now()
	if f.Transmit.Publish() {
		f.Kick(TransmitRing)
	}
	answered := false
	for !answered {
		f.post(func(frame []byte) { answered = answered || isEchoReply(frame) })
		if answered {
			break
		}
		if time.Since(begin) > limit {
			return 0, fmt.Errorf("%w: %w", ErrNoAnswer, os.ErrDeadlineExceeded)
		}
		if !f.Receive.EnableInterrupts() {
			f.awaitCall(ReceiveRing)
		}
	}
	return time.Since(begin), nil
}

// awaitCall waits for an interrupt, for a while.
func (f *FrontEnd) awaitCall(ring int) {
	fd := f.Setup.Rings[ring].CallFD
	const patience = 100 // milliseconds
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience)
	_, _ = unix.Read(fd, make([]byte, 8))
}
