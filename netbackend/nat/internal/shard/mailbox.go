package shard

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// mailbox is what other threads leave for a shard. It is emptied at the beginning of each turn.
type mailbox struct {
	any   atomic.Bool // there is something; who sets it wakes the thread
	fd    int         // eventfd in the worker's epoll set
	taken mail        // what was taken out last; it is the shard's own

	mu     sync.Mutex
	closed bool
	mail   mail
}

// mail is what is in a mailbox.
type mail struct {
	Flows         []uint32                // handed over to this shard
	moveRequests  uint32                  // a bit for each pair that wants a flow
	requested     [MaxPairs]flowtable.Key // and which
	Listen        bool                    // the listeners are this shard's now
	ShardsChanged bool                    // pairs have begun or ceased to run
	// mappings were given to this shard, or have no flows any more. They are named by their ports of the guest.
	Mappings []ipaddr.Endpoint
	// OverLimit and UnderPressure have a bit for each class of which others want a flow to go: if there are too many, or in any case.
	OverLimit, UnderPressure uint
}

// put lets fn leave something, and wakes the shard's thread. !ok means that the shard is closed.
func (b *mailbox) put(fn func(*mail)) (ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	fn(&b.mail)
	if !b.any.Swap(true) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(b.fd, one[:])
	}
	return true
}

// take returns what is there, nil for nothing. It is valid until the next call.
func (b *mailbox) take() *mail {
	if !b.any.Swap(false) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	flows := b.taken.Flows[:0]
	b.taken, b.mail = b.mail, mail{Flows: flows}
	return &b.taken
}

// close lets nobody leave anything any more, and returns the flows that are there.
func (b *mailbox) close() (flows []uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	flows, b.mail.Flows = b.mail.Flows, nil
	return flows
}

// OpenMailbox makes the mailbox of a shard ready for use, unless it is alone. WatchMail has the worker watch it, and CloseMailbox undoes
// both, after StopMail.
func (s *Shard) OpenMailbox() (err error) {
	if s.Alone() {
		return nil
	}
	s.mailbox.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return err
}

// WatchMail has the worker tell when something is in the mailbox.
func (s *Shard) WatchMail() error {
	if s.Alone() {
		return nil
	}
	return s.Worker.RegisterInput(s.mailbox.fd, Token(TokenMail, 0, 0))
}

// CloseMailbox closes the mailbox, after StopMail.
func (s *Shard) CloseMailbox() {
	if s.Worker != nil {
		s.Worker.Unregister(s.mailbox.fd)
	}
	_ = unix.Close(s.mailbox.fd)
}

// TakeMail returns what other threads have left, nil for nothing. It is valid until the next call.
func (s *Shard) TakeMail() *mail { return s.mailbox.take() }

// StopMail lets nobody leave anything any more, and returns the flows that are there.
func (s *Shard) StopMail() (flows []uint32) { return s.mailbox.close() }

// Wake gives the shard a turn. Any thread may call it, as what follows.
func (s *Shard) Wake() { s.mailbox.put(func(*mail) {}) }

// SendListeners tells a shard that the listeners are its own now. !ok means that it is closed.
func (s *Shard) SendListeners() (ok bool) { return s.mailbox.put(func(m *mail) { m.Listen = true }) }

// SendMapping tells a shard that a mapping was given to it, or has no flows any more. !ok means that it is closed.
func (s *Shard) SendMapping(guest ipaddr.Endpoint) (ok bool) {
	return s.mailbox.put(func(m *mail) { m.Mappings = append(m.Mappings, guest) })
}
