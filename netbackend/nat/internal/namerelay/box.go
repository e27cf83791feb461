package namerelay

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// box is where the answer of a resolver by a connection comes (package dnsconn): on another goroutine, which wakes the relay's thread by an
// event of fd, as an answer by UDP does by its socket's.
type box struct {
	mu     sync.Mutex
	fd     int // an eventfd; -1 once the answer is not awaited any more, and the number may be another file's
	full   bool
	answer []byte
	err    error

	cancel func() // gives the query up. It belongs to the relay's thread.
}

// put takes the answer, or why there is none. Any goroutine may call it.
func (b *box) put(answer []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fd < 0 {
		return
	}
	b.full, b.answer, b.err = true, answer, err
	_, _ = unix.Write(b.fd, binary.NativeEndian.AppendUint64(nil, 1))
}

// take returns what has come; the error is EAGAIN while nothing has.
func (b *box) take() (answer []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.full {
		return nil, unix.EAGAIN
	}
	return b.answer, b.err
}

// close lets nothing come any more.
func (b *box) close() {
	b.mu.Lock()
	b.fd = -1
	b.mu.Unlock()
	if b.cancel != nil {
		b.cancel()
	}
}
