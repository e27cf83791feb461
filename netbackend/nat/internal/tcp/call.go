package tcp

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// A call is a connection into the guest for a client that has come by no forward, and whose socket is there already: one that has
// connected to the control socket, or to a proxy of the process. It is passed on as one by a forward is, from socket to guest. There is
// one difference: its client waits to be told whether the guest has accepted, which one by a forward cannot be, as the kernel has
// accepted for it. So until the guest has answered, whoever has called keeps the client, and the engine takes nothing from its socket.

// Call is a connection into the guest that somebody asks for.
type Call struct {
	// Socket is connected to the client: a stream of TCP, or a unix one, as UnixSocket tells. It does not block. It is the engine's from
	// Port.Call on, and is closed whatever happens. A caller who is to tell the client why there is no connection has a duplicate.
	Socket     int
	UnixSocket bool
	// To is an address and a port of the guest, or of a host behind its card; see Config.CheckCall.
	To netip.AddrPort
	// Client is whom the guest sees, as it sees clients of forwards. The zero AddrPort is the gateway.
	Client netip.AddrPort
	// Greeting is what the client gets when the guest has accepted, before anything that the guest sends: MaxGreeting bytes at most.
	Greeting []byte
	// Accepted is called when the guest has accepted, and the client was greeted; Failed is when there will be no connection. One of
	// them is called once, on a thread of the guest's, and must not wait.
	Accepted func()
	Failed   func(CallFailure)
}

// MaxGreeting bounds a Call's Greeting, in bytes. Each socket has room for as much.
const MaxGreeting = 1024

// CallFailure is why a Call has led to no connection.
type CallFailure struct {
	Cause   stats.CloseReason
	Located bool // a host behind the guest's card was found to have the address
}

// callRetries is how often the SYN of a call is sent again, whose client waits to be told: it is after half a minute that the guest
// has not answered.
const callRetries = 4

// calls are those of a guest whose clients wait. All queue pairs share them.
type calls struct {
	mu      sync.Mutex
	waiting map[uint32]*Call // by the index of the flow
}

func (s *calls) add(index uint32, c *Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[uint32]*Call{}
	}
	s.waiting[index] = c
}

// take returns the call of a flow, which waits no more.
func (s *calls) take(index uint32) *Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.waiting[index]
	delete(s.waiting, index)
	return c
}

// Fail closes the socket of a call that is no flow's, and tells who has called. The client may have more to read: so it is not reset.
func (c *Call) Fail(cause stats.CloseReason, located bool) {
	_ = unix.Close(c.Socket)
	c.Failed(CallFailure{cause, located})
}

// PlaceCall begins the guest's side of a call.
func (e *Engine) PlaceCall(t *shard.Turn, c *Call, caller *ProxyState, kind shard.Bits) {
	if !t.HasGuest() {
		e.rejectCall(c, stats.EndNoGuest)
		return
	}
	f := e.dialWith(t, c.Socket, ipaddr.EndpointFrom(c.To), caller, kind|shard.Awaited)
	if f == nil {
		e.rejectCall(c, stats.EndNoRoom)
		return
	}
	e.guest.calls.add(f.Index, c)
	if to := t.Pairs.Lowest(); to != nil && to != e.shard {
		e.shard.ScheduleMove(f, to) // this one's receive ring may not run
	}
}

// rejectCall ends a call that has no flow.
func (e *Engine) rejectCall(c *Call, cause stats.CloseReason) {
	e.shard.Counters.Ends[cause]++
	c.Fail(cause, false)
}

// callAccepted greets the client of a call that the guest has accepted.
func (e *Engine) callAccepted(f conn) {
	f.Bits &^= shard.Awaited
	c := e.guest.calls.take(f.Index)
	n, err := unix.SendmsgN(int(f.FD), c.Greeting, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	switch errno, _ := err.(unix.Errno); {
	case err != nil:
		e.hostFailed(f, errno)
	case n < len(c.Greeting):
		e.hostFailed(f, unix.ENOBUFS)
	}
	c.Accepted()
}

// callFailed tells who waits for the guest that a call has ended.
func (e *Engine) callFailed(f *shard.Flow, cause stats.CloseReason) {
	f.Bits &^= shard.Awaited
	e.shard.TakeSocket(f)
	e.guest.calls.take(f.Index).Fail(cause, f.Host != hosts.Any)
}
