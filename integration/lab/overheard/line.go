package overheard

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/netns"
)

// buffered is what the kernel keeps for a listener that is slow, in bytes.
const buffered = 32 << 20

// Line is an interface that is listened to.
type Line struct {
	file *os.File
	done chan struct{}

	mu      sync.Mutex
	packets []Packet
	streams map[flow]*stream
	changed chan struct{} // closed when a packet is added
}

// stream is what one end of a TCP connection has sent.
type stream struct {
	next uint32 // sequence number
	text []byte
}

// Listen begins to listen to the packets that come in by an interface; those that leave by it are not heard. On the loopback all come in.
func Listen(ns *netns.Namespace, name string) (*Line, error) {
	l := &Line{done: make(chan struct{}), streams: map[flow]*stream{}, changed: make(chan struct{})}
	if err := ns.Do(func() error { return l.open(name) }); err != nil {
		return nil, fmt.Errorf("listen to %s: %w", name, err)
	}
	go l.hear()
	return l, nil
}

// open opens the socket. The calling thread is in the namespace.
func (l *Line) open(name string) error {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	everything := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // in the order of the network
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffered),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: device.Index}))
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	l.file = os.NewFile(uintptr(fd), name)
	return nil
}

// Close ends the listening. What was heard stays.
func (l *Line) Close() error {
	err := l.file.Close()
	<-l.done
	return err
}

// hear keeps what arrives.
func (l *Line) hear() {
	defer close(l.done)
	frame := make([]byte, 1<<17)
	for {
		n, err := l.file.Read(frame)
		if err != nil {
			return
		}
		if p, ok := parse(bytes.Clone(frame[:n])); ok {
			l.add(p)
		}
	}
}

// add adds a packet, and to a TCP connection's text what is new in it.
func (l *Line) add(p Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.packets = append(l.packets, p)
	l.follow(p)
	close(l.changed)
	l.changed = make(chan struct{})
}

// follow adds the payload of a packet to its stream, unless it was there before.
func (l *Line) follow(p Packet) {
	if p.Protocol != unix.IPPROTO_TCP {
		return
	}
	s := l.streams[p.flow()]
	if s == nil || p.opens() {
		s = &stream{next: p.sequence}
		l.streams[p.flow()] = s
		if p.opens() {
			s.next++
		}
	}
	repeated := int64(int32(s.next - p.sequence))
	if repeated < 0 || repeated > int64(len(p.Payload)) || p.opens() {
		repeated = 0
	}
	s.text = append(s.text, p.Payload[repeated:]...)
	s.next += uint32(int64(len(p.Payload)) - repeated)
}

// Heard returns how many packets were heard.
func (l *Line) Heard() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.packets)
}

// Since returns the packets but the first n.
func (l *Line) Since(n int) []Packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.packets[n:])
}

// Text returns what the end of a connection that has sent a packet of TCP has sent until now.
func (l *Line) Text(p Packet) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.streams[p.flow()]; s != nil {
		return bytes.Clone(s.text)
	}
	return nil
}

// Wait waits for a packet behind the first n. It returns false when stop is closed before.
func (l *Line) Wait(n int, stop <-chan struct{}, is func(Packet) bool) bool {
	for {
		l.mu.Lock()
		packets, changed := l.packets[n:], l.changed
		l.mu.Unlock()
		for _, p := range packets {
			if is(p) {
				return true
			}
		}
		n += len(packets)
		select {
		case <-changed:
		case <-stop:
			return false
		}
	}
}
