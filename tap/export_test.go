package tap

import "golang.org/x/sys/unix"

// FD is the file descriptor of the Port's queue.
func (p *Port) FD() int { return p.queue.fd }

// Unsent is what follows an error of sending a frame. It tells whether the next one has its turn.
func (p *Port) Unsent(errno unix.Errno) bool { return p.unsent(errno) }

// Unread is what follows an error of reading a frame. It tells whether the next one is read at once.
func (p *Port) Unread(errno unix.Errno) bool {
	p.readable = true
	p.unread(errno)
	return p.readable
}
