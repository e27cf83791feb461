package tapguest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/netns"
)

// Card is the name of the guest's network card.
const Card = "eth0"

// maxFrame is longer than any frame of a card with an MTU of up to 65535.
const maxFrame = 1 << 16

// prefix is the length of what is in front of each frame on the stream.
const prefix = 4

// Guest is a namespace with a card. It is connected to a vring until it is closed.
type Guest struct {
	*netns.Namespace
	card   *os.File
	stream net.Conn
	done   sync.WaitGroup

	sending sync.Mutex // frames are whole on the stream

	diverting sync.Mutex
	diverted  map[*diversion]bool
}

// diversion is somebody who takes frames from vring in the kernel's place.
type diversion struct {
	wants  func(frame []byte) bool
	frames chan []byte
}

// New makes a guest and connects it to the socket of a vring. The card is not up, and has no address.
func New(socket string) (*Guest, error) {
	ns, err := netns.New()
	if err != nil {
		return nil, err
	}
	g := &Guest{Namespace: ns, diverted: map[*diversion]bool{}}
	if err := ns.Do(g.openCard); err != nil {
		return nil, errors.Join(fmt.Errorf("make the guest's card: %w", err), ns.Close())
	}
	if g.stream, err = net.Dial("unix", socket); err != nil {
		return nil, errors.Join(err, g.card.Close(), ns.Close())
	}
	g.done.Go(g.toVring)
	g.done.Go(g.fromVring)
	return g, nil
}

// openCard makes the TAP device. The calling thread is in the namespace.
func (g *Guest) openCard() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("open /dev/net/tun", err)
	}
	request, err := unix.NewIfreq(Card)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return errors.Join(os.NewSyscallError("TUNSETIFF", err), unix.Close(fd))
	}
	g.card = os.NewFile(uintptr(fd), Card)
	return nil
}

// Close unplugs the card, and lets go of the namespace.
func (g *Guest) Close() error {
	err := errors.Join(g.stream.Close(), g.card.Close())
	g.done.Wait()
	return errors.Join(err, g.Namespace.Close())
}

// Send sends a frame to vring behind those that the kernel has sent.
func (g *Guest) Send(frame []byte) error {
	g.sending.Lock()
	defer g.sending.Unlock()
	message := binary.BigEndian.AppendUint32(make([]byte, 0, prefix+len(frame)), uint32(len(frame)))
	_, err := g.stream.Write(append(message, frame...))
	return err
}

// Divert keeps frames from the kernel, which would refuse what it has not asked for. They are dropped while frames is full. wants is called
// for each frame of vring's, must not keep it, and must not wait.
func (g *Guest) Divert(wants func(frame []byte) bool) (frames <-chan []byte, end func()) {
	d := &diversion{wants, make(chan []byte, 256)}
	g.diverting.Lock()
	defer g.diverting.Unlock()
	g.diverted[d] = true
	return d.frames, func() {
		g.diverting.Lock()
		defer g.diverting.Unlock()
		delete(g.diverted, d)
	}
}

// toVring passes the kernel's frames on until the card or the stream is closed.
func (g *Guest) toVring() {
	frame := make([]byte, maxFrame)
	for {
		n, err := g.card.Read(frame)
		if err != nil || g.Send(frame[:n]) != nil {
			return
		}
	}
}

// fromVring passes vring's frames on until the stream is closed. A card that is not up takes none.
func (g *Guest) fromVring() {
	frame := make([]byte, maxFrame)
	for {
		if _, err := io.ReadFull(g.stream, frame[:prefix]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(frame)
		if n > maxFrame {
			return
		}
		if _, err := io.ReadFull(g.stream, frame[:n]); err != nil {
			return
		}
		if !g.divert(frame[:n]) {
			_, _ = g.card.Write(frame[:n])
		}
	}
}

// divert gives a frame to who wants it. It returns false if nobody does.
func (g *Guest) divert(frame []byte) (taken bool) {
	g.diverting.Lock()
	defer g.diverting.Unlock()
	for d := range g.diverted {
		if !d.wants(frame) {
			continue
		}
		taken = true
		select {
		case d.frames <- append([]byte(nil), frame...):
		default:
		}
	}
	return taken
}
