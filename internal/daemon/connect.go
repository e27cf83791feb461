package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/netbackend/worker"
)

// connectPatience is how long a client is connected to a guest at most. The engine gives up before, unless a thread of the guest's is stuck.
const connectPatience = time.Minute

// Client is who wants to be connected to a guest.
type Client struct {
	// Conn is a stream of TCP, or a unix one, from which nothing was read that is the guest's. It stays the caller's.
	Conn       syscall.Conn
	UnixSocket bool           // it is a unix one
	From       netip.AddrPort // whom the guest sees; the zero AddrPort is the gateway
	Greeting   []byte         // what the client gets first, nat.MaxGreeting bytes at most
}

// ConnectFailure is a kind of reason why a client was not connected to a guest.
type ConnectFailure uint8

// Kinds of reasons.
const (
	NotConnected       ConnectFailure = iota // any other
	BadDestination                           // no guest can have the address, or another one has it
	ConnectRefused                           // nobody listens at the port
	GuestSilent                              // there was no answer
	AddressUnused                            // no host behind the guest's card has the address
	AddressUnreachable                       // the guest says that it leads nowhere
	GuestAway                                // there is no front end, no driver, or no link
)

// ConnectError is that a client was not connected to a guest. The client was sent nothing.
type ConnectError struct {
	Kind ConnectFailure
	text string
}

func (e *ConnectError) Error() string { return e.text }

// Connect connects a client to an address and a port of a guest, or of a host behind its card; without an address, of the guest. The
// client was greeted then, and is passed on without the caller, who closes its side of Conn. Any goroutine may call it between Open and
// the end of Serve. The error is a NoGuestError, a NoFlowsError, a ConnectError, or the context's; the caller has the client alone then, but
// for the last one.
func (d *Daemon) Connect(ctx context.Context, guest string, to netip.AddrPort, client *Client) error {
	s, err := d.withFlows(guest)
	if err != nil {
		return err
	}
	c := s.network.NAT
	if !to.Addr().IsValid() {
		to = netip.AddrPortFrom(c.Guest, to.Port())
	}
	if err := c.CheckCall(to); err != nil {
		return &ConnectError{BadDestination, err.Error()}
	}
	if _, draining := d.Draining(); draining {
		return &ConnectError{NotConnected, errDraining.Error()}
	}
	if s.linkDown.Load() {
		return &ConnectError{GuestAway, fmt.Sprintf("the link of guest %s is down; vring ctl link %s up takes it up", s.name, s.name)}
	}
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	return s.call(ctx, to, client)
}

// call has the guest's engine call, and waits for what comes of it.
func (s *served) call(ctx context.Context, to netip.AddrPort, client *Client) error {
	socket, err := duplicate(client.Conn)
	if err != nil {
		return &ConnectError{NotConnected, fmt.Sprintf("there is no descriptor left for the connection: %v", err)}
	}
	done := make(chan error, 1)
	call := &nat.Call{
		Socket: socket, UnixSocket: client.UnixSocket, To: to, Client: client.From, Greeting: client.Greeting,
		Accepted: func() { done <- nil },
		Failed:   func(f nat.CallFailure) { done <- connectError(s.name, to, f) },
	}
	if err := s.device.Do(0, func(t *worker.Thread) { engineOf(t.Port()).Call(call) }); err != nil {
		return fmt.Errorf("guest %s: %w", s.name, err) // its thread may yet take the call, so it keeps its descriptor
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("guest %s: nobody says what became of the connection to %s: %w", s.name, to, ctx.Err())
	}
}

// duplicate returns a descriptor of its own of a connection.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(of uintptr) { fd, failed = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, failed)
}

// connectError says why a client was not connected.
func connectError(guest string, to netip.AddrPort, f nat.CallFailure) error {
	say := func(kind ConnectFailure, format string, args ...any) error {
		return &ConnectError{kind, fmt.Sprintf(format, args...)}
	}
	switch f.Cause {
	case stats.EndRefused:
		return say(ConnectRefused, "%s refuses the connection: nothing listens there", to)
	case stats.EndUnanswered:
		if !f.Located {
			return say(AddressUnused, "no host behind guest %s has the address %s: it may still be booting, or have no address yet", guest, to.Addr())
		}
		return say(GuestSilent, "%s does not answer: a firewall of the guest may drop what comes, or its backlog is full", to)
	case stats.EndUnreachable:
		return say(AddressUnreachable, "guest %s says that %s cannot be reached", guest, to)
	case stats.EndNoGuest, stats.EndGuestGone:
		return say(GuestAway, "guest %s has no front end: it is not running", guest)
	case stats.EndDriverGone:
		return say(GuestAway, "guest %s has reset its network device", guest)
	case stats.EndNoRoom, stats.EndEvicted:
		return say(NotConnected, "guest %s has too many connections; end some, or try again", guest)
	case stats.EndKilled:
		return say(NotConnected, "the connection to %s was ended on demand", to)
	case stats.EndClosed:
		return say(NotConnected, "guest %s is not served any more", guest)
	}
	return say(NotConnected, "the connection to %s has ended before the guest has accepted it", to)
}
