package listeners

import (
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// Listener is a port or a unix socket of the host that leads into the guest.
type Listener struct {
	forward.Socket
	Proto       uint8
	Index       uint32
	Ready       bool         // only EAGAIN clears it
	SockError   bool         // UDP: it has errors to tell
	ShutNow     *atomic.Bool // it is not listened on now; nil if it has no gate. All queue pairs share it
	AcceptProxy bool         // see Forward
	SendProxy   uint8
	Guest       ipaddr.Endpoint // in the guest
	Shared      *SharedSocket   // UDP: the socket. All queue pairs share it
	Receiver    Receiver        // UDP
}

// IsShut tells whether the host's port refuses connections now. Any queue pair may call it.
func (l *Listener) IsShut() bool { return l.ShutNow != nil && l.ShutNow.Load() }

// Shut makes the host's port refuse connections.
func (l *Listener) Shut() {
	l.ShutNow.Store(true) // first: who accepts now is told of an error, and looks again
	l.Pause()
}

// Open makes the host's port take connections again, unless it does.
func (l *Listener) Open() error {
	if !l.IsShut() {
		return nil
	}
	// The event of the first client must not be passed over.
	if err := l.Resume(func() { l.ShutNow.Store(false) }); err != nil {
		l.ShutNow.Store(true)
		return err
	}
	return nil
}

// Receiver is what is to be remembered of a socket for datagrams that come by it.
type Receiver struct {
	Long bool // a datagram was longer than one receive buffer of the guest
	GRO  bool // the kernel may put datagrams together (UDP_GRO)
}

// SharedSocket is a socket that flows of any queue pair share: that of a forward, or of a mapping.
type SharedSocket struct {
	FD    int32
	Via   uint32          // how flows name it
	Guest ipaddr.Endpoint // the guest's end of its flows
	// AsksWays tells that the kernel says how datagrams come; see way.
	AsksWays bool

	Memory shard.SocketMemory // of who reads it

	// mu is held while datagrams leave, so that those of several pairs travel each in a manner of its own, and while errors of
	// the socket are read.
	Mu     sync.Mutex
	Sender hostsock.Sender
	NoGSO  bool // as in association
}
