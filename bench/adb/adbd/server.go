package adbd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// banner is what the device says of itself. All features that the host knows are about services that are not here.
const banner = "device::ro.product.name=vring;ro.product.model=bench;ro.product.device=bench;features="

const (
	maxStreams = 1024 // of a host
	maxService = 64   // bytes of a service's name
	readAhead  = 64 << 10
)

// Serve serves every host that connects, until the listener is closed.
func Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() { _ = ServeHost(conn) }()
	}
}

// ServeHost serves one host until its connection ends or it breaks the protocol, and closes the connection. An end between
// two messages is no error.
func ServeHost(conn net.Conn) error {
	h := &host{conn: conn, in: bufio.NewReaderSize(conn, readAhead), streams: make(map[uint32]*stream)}
	err := h.serve()
	h.close()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// host is a connection to an adb server, which is called a transport there.
type host struct {
	conn net.Conn
	in   *bufio.Reader // of the goroutine that reads

	writing sync.Mutex // one message at a time

	mu      sync.Mutex
	streams map[uint32]*stream // by the device's number
	last    uint32             // number that was given away
}

func (h *host) serve() error {
	if err := h.greet(); err != nil {
		return err
	}
	for {
		m, err := ReadHeader(h.in)
		if err != nil {
			return err
		}
		if err := h.handle(m); err != nil {
			return err
		}
	}
}

// greet exchanges the CONNECT messages.
func (h *host) greet() error {
	m, err := ReadHeader(h.in)
	if err != nil {
		return err
	}
	if m.Command != Connect || m.Arg0 < Version || m.Arg1 < MaxPayload {
		return fmt.Errorf("%w: it begins with %v, version %#x, payloads of %d bytes", ErrProtocol, m.Command, m.Arg0, m.Arg1)
	}
	if err := h.discard(m.Length); err != nil {
		return err
	}
	return h.send(Append(nil, Header{Command: Connect, Arg0: Version, Arg1: MaxPayload}, []byte(banner)))
}

func (h *host) handle(m Header) error {
	switch m.Command {
	case Open:
		return h.open(m)
	case Write:
		return h.deliver(m)
	case Okay:
		return h.acknowledge(m)
	case Close:
		if s := h.take(m.Arg1); s != nil {
			close(s.ended)
		}
		return h.discard(m.Length)
	default:
		return fmt.Errorf("%w: unexpected %v", ErrProtocol, m.Command)
	}
}

// open reads the name of a service and starts a stream to it.
func (h *host) open(m Header) error {
	if m.Arg0 == 0 || m.Arg1 != 0 || m.Length > maxService {
		return fmt.Errorf("%w: OPEN of stream %d, window %d, name of %d bytes", ErrProtocol, m.Arg0, m.Arg1, m.Length)
	}
	name := make([]byte, m.Length)
	if err := h.read(name); err != nil {
		return err
	}
	address, err := serviceAddress(string(name))
	if err != nil {
		return h.tell(Close, 0, m.Arg0)
	}
	s := h.add(m.Arg0)
	if s == nil {
		return h.tell(Close, 0, m.Arg0)
	}
	go s.run(address)
	return nil
}

// serviceAddress returns where "tcp:PORT" is, with or without the zero byte that adb puts behind it.
func serviceAddress(name string) (string, error) {
	port, ok := strings.CutPrefix(strings.TrimSuffix(name, "\x00"), "tcp:")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || n == 0 {
		return "", fmt.Errorf("no service %q", name)
	}
	return net.JoinHostPort("127.0.0.1", strconv.FormatUint(n, 10)), nil
}

// deliver hands a payload to its stream. One for a stream that has just been closed is dropped: the host did not know.
func (h *host) deliver(m Header) error {
	s := h.find(m.Arg1)
	if s == nil {
		return h.discard(m.Length)
	}
	if m.Arg0 != s.remote || !s.opened.Load() || !s.free.CompareAndSwap(true, false) {
		return fmt.Errorf("%w: WRTE to stream %d before it may", ErrProtocol, m.Arg1)
	}
	if err := h.read(s.grow(int(m.Length))); err != nil {
		return err
	}
	s.down <- struct{}{}
	return nil
}

// acknowledge lets a stream send its next payload.
func (h *host) acknowledge(m Header) error {
	if s := h.find(m.Arg1); s != nil {
		if m.Arg0 != s.remote || !s.sent.CompareAndSwap(true, false) {
			return fmt.Errorf("%w: OKAY to stream %d for nothing", ErrProtocol, m.Arg1)
		}
		s.acked <- struct{}{} // has room: there was one payload
	}
	return h.discard(m.Length)
}

// read reads a payload. An end before it has come is no end between two messages.
func (h *host) read(payload []byte) error {
	_, err := io.ReadFull(h.in, payload)
	return inside(err)
}

func (h *host) discard(n uint32) error {
	_, err := io.CopyN(io.Discard, h.in, int64(n))
	return inside(err)
}

func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// add makes a stream, or returns nil if there are too many.
func (h *host) add(remote uint32) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) >= maxStreams {
		return nil
	}
	for h.last++; h.last == 0 || h.streams[h.last] != nil; h.last++ {
	}
	s := newStream(h, h.last, remote)
	h.streams[h.last] = s
	return s
}

func (h *host) find(local uint32) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams[local]
}

// take removes a stream and returns it, or nil if somebody else has done so.
func (h *host) take(local uint32) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.streams[local]
	delete(h.streams, local)
	return s
}

// tell sends a message without payload.
func (h *host) tell(c Command, local, remote uint32) error {
	return h.send(Append(nil, Header{Command: c, Arg0: local, Arg1: remote}, nil))
}

// send writes a whole message.
func (h *host) send(message []byte) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	_, err := h.conn.Write(message)
	return err
}

// close ends the connection and all streams.
func (h *host) close() {
	h.conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		close(s.ended)
	}
	h.streams = nil
}
