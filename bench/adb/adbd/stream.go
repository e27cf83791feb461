package adbd

import (
	"net"
	"sync"
	"sync/atomic"
)

// stream joins a connection to a service with a stream of the host.
//
// Whoever takes it out of the host's table closes ended: the reader of the host, or the stream itself.
type stream struct {
	host          *host
	local, remote uint32

	opened atomic.Bool   // the host was told that the service has answered
	free   atomic.Bool   // payload belongs to the reader of the host, and nothing is under way
	down   chan struct{} // payload is full
	sent   atomic.Bool   // a payload is on its way to the host, which has not taken it yet
	acked  chan struct{} // the host has taken it
	ended  chan struct{} // closed: the stream is no more

	payload []byte // from the host
}

func newStream(h *host, local, remote uint32) *stream {
	s := &stream{
		host: h, local: local, remote: remote,
		down: make(chan struct{}, 1), acked: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	s.free.Store(true)
	return s
}

// grow returns payload with n bytes.
func (s *stream) grow(n int) []byte {
	if cap(s.payload) < n {
		s.payload = make([]byte, n)
	}
	s.payload = s.payload[:n]
	return s.payload
}

// run dials the service and carries data until either end closes.
func (s *stream) run(address string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		if s.host.take(s.local) != nil {
			_ = s.host.tell(Close, 0, s.remote)
		}
		return
	}
	s.opened.Store(true)
	if s.host.tell(Okay, s.local, s.remote) == nil {
		go s.sendUp(conn)
		s.sendDown(conn)
	}
	s.finish()
	conn.Close()
}

// sendDown writes what the host sends, until the stream ends or the service takes no more.
func (s *stream) sendDown(conn net.Conn) {
	for s.await() {
		if _, err := conn.Write(s.payload); err != nil {
			return
		}
		s.free.Store(true)
		if s.host.tell(Okay, s.local, s.remote) != nil {
			return
		}
	}
}

// await waits for a payload. One that came before the stream's end is still to be written.
func (s *stream) await() bool {
	select {
	case <-s.down:
		return true
	case <-s.ended:
	}
	select {
	case <-s.down:
		return true
	default:
		return false
	}
}

// messages are buffers for a header and the greatest payload.
var messages = sync.Pool{New: func() any { return new([headerSize + MaxPayload]byte) }}

// sendUp sends what the service says, one payload at a time. Its end, of whatever kind, ends the stream: the protocol knows
// no half close and no reset.
func (s *stream) sendUp(conn net.Conn) {
	message := messages.Get().(*[headerSize + MaxPayload]byte)
	defer messages.Put(message)
	for {
		n, err := conn.Read(message[headerSize:])
		if err != nil || !s.sendPayload(message[:headerSize+n]) {
			break
		}
	}
	s.finish()
	conn.Close() // ends a write that is under way
}

// sendPayload sends a message whose payload is in place, and waits until the host has taken it.
func (s *stream) sendPayload(message []byte) bool {
	Header{Command: Write, Arg0: s.local, Arg1: s.remote, Length: uint32(len(message) - headerSize)}.put(message)
	s.sent.Store(true)
	if s.host.send(message) != nil {
		return false
	}
	select {
	case <-s.acked:
		return true
	case <-s.ended:
		return false
	}
}

// finish tells the host that the stream has ended, unless it is the host that has ended it.
func (s *stream) finish() {
	if s.host.take(s.local) == nil {
		return
	}
	close(s.ended)
	_ = s.host.tell(Close, s.local, s.remote)
}
