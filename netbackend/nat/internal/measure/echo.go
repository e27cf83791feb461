package measure

import (
	"sync"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

const (
	// MaxConnections is how many connections to services a guest may have at once.
	MaxConnections = 128
	// BufferLen is how many bytes echo keeps of a connection at most: the longest frame.
	BufferLen = 64 << 10
)

// Buffer is what echo keeps of a connection: the guest has sent it, and not acknowledged it yet. It belongs to the thread that has the
// connection.
type Buffer struct {
	start, n int
	data     [BufferLen]byte
}

// Len returns how many bytes are kept.
func (b *Buffer) Len() int { return b.n }

// Take keeps the first n bytes of iov, or as many as there is room for, and returns how many.
func (b *Buffer) Take(iov []guestmem.Iovec, n int) (taken int) {
	n = min(n, BufferLen-b.n)
	for taken < n {
		end := (b.start + b.n) % BufferLen
		got := guestmem.CopyFrom(b.data[end:min(end+n-taken, BufferLen)], iov, taken)
		if got == 0 {
			break
		}
		taken += got
		b.n += got
	}
	return taken
}

// Put writes up to n of the bytes that are kept, from the one at position on, to offset of iov. It returns how many.
func (b *Buffer) Put(iov []guestmem.Iovec, offset, position, n int) (done int) {
	n = min(n, b.n-position)
	for done < n {
		at := (b.start + position + done) % BufferLen
		put := guestmem.CopyTo(iov, offset+done, b.data[at:min(at+n-done, BufferLen)])
		if put == 0 {
			break
		}
		done += put
	}
	return done
}

// Drop forgets the first n bytes that are kept.
func (b *Buffer) Drop(n int) {
	n = min(n, b.n)
	b.start, b.n = (b.start+n)%BufferLen, b.n-n
}

// Connections are those of a guest to services, with the buffers of echo. A buffer is kept for the next connection when one has ended.
// It is safe for use by all threads of the guest.
type Connections struct {
	mu      sync.Mutex
	open    int
	made    int
	idle    []uint8
	buffers [MaxConnections]*Buffer // the first that are made; who has the number of one uses it without the lock
}

// Begin makes room for one more connection, and returns the number of its buffer, if it is one to echo. !ok means that there are too many.
func (c *Connections) Begin(s Service) (number uint8, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == MaxConnections {
		return 0, false
	}
	c.open++
	if s != Echo {
		return 0, true
	}
	if n := len(c.idle); n > 0 {
		number, c.idle = c.idle[n-1], c.idle[:n-1]
		return number, true
	}
	number = uint8(c.made)
	c.buffers[number] = new(Buffer)
	c.made++
	return number, true
}

// Buffer returns the one with a number.
func (c *Connections) Buffer(number uint8) *Buffer { return c.buffers[number] }

// End takes note that a connection is over, with the buffer of a number if it was one to echo.
func (c *Connections) End(s Service, number uint8) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if s != Echo {
		return
	}
	b := c.buffers[number]
	b.start, b.n = 0, 0
	c.idle = append(c.idle, number)
}

// Open returns how many connections there are.
func (c *Connections) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}
