package inbound

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/forwardset"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Call has a call placed in the next turn.
func (e *Acceptor) Call(c *tcp.Call) { e.calls = append(e.calls, c) }

// placeCalls begins the calls that were asked for since the last turn.
func (e *Acceptor) placeCalls(t *shard.Turn) {
	for i, c := range e.calls {
		e.placeCall(t, c)
		e.calls[i] = nil
	}
	e.calls = e.calls[:0]
}

// failCalls ends the calls that were asked for and not begun.
func (e *Acceptor) failCalls() {
	for _, c := range e.calls {
		c.Fail(stats.EndClosed, false)
	}
	e.calls = nil
}

func (e *Acceptor) placeCall(t *shard.Turn, c *tcp.Call) {
	t.Counters.Calls++
	kind, peer := shard.Direct, ipaddr.EndpointFrom(c.Client)
	if c.UnixSocket {
		kind |= shard.UnixSocket
	}
	if !c.Client.IsValid() {
		peer = e.unixClient()
	}
	hostsock.ReadInline(c.Socket)
	e.tcp.PlaceCall(t, c, &tcp.ProxyState{Source: peer}, kind)
}

// Acceptor takes connections by forwards, and gives the forwards of both protocols their turns.
type Acceptor struct {
	shard     *shard.Shard
	listeners *listeners.Set
	tcp       *tcp.Engine
	udp       *udp.Engine
	forwards  *forwardset.Forwards // of the guest
	following *forwardset.Set      // the one that the queue pair follows
	calls     []*tcp.Call          // that were asked for since the last turn
	acceptAt  int64                // no connection is accepted before, 0 if they may be now
	unixPort  uint16               // of the last client of a unix socket, counted from FirstAnyPort
}

// Uses are the parts that an Acceptor works with.
type Uses struct {
	Shard     *shard.Shard
	Listeners *listeners.Set
	TCP       *tcp.Engine
	UDP       *udp.Engine
}

// SetUp makes that of a queue pair, which follows the set of forwards that is current, and has its listeners.
func (e *Acceptor) SetUp(u Uses, forwards *forwardset.Forwards) {
	*e = Acceptor{
		shard: u.Shard, listeners: u.Listeners, tcp: u.TCP, udp: u.UDP, forwards: forwards, following: forwards.Current.Load(),
	}
	e.listeners.SetUp(u.Shard, e.following.Listeners())
}

// PrepareForwards lets the kernel put datagrams for forwards together if the guest takes them so.
func (e *Acceptor) PrepareForwards() {
	for l := range e.listeners.Forwards() {
		e.udp.PrepareForward(l)
	}
}

// CloseListeners lets no more clients come by forwards. Their ports stay open: other queue pairs may send by them.
func (e *Acceptor) CloseListeners() {
	for l := range e.listeners.Forwards() {
		if e.shard.Worker != nil && e.shard.Listening {
			e.shard.Worker.Unregister(int(l.FD))
		}
	}
	e.listeners.ForgetForwards()
	e.failCalls()
	e.forwards.Follow(e.shard.Pair, forwardset.FollowsAll)
}

const (
	// acceptBurst is how many connections a forward gets through in one turn.
	acceptBurst = 64
	// callBurst is how many forwards have their turn in one of the engine's.
	callBurst = 16
)

// AcceptAll takes what has come in on the forwards.
func (e *Acceptor) AcceptAll(t *shard.Turn) {
	if t.Now >= e.acceptAt {
		e.acceptAt = 0
	}
	if len(e.calls) > 0 {
		e.placeCalls(t)
	}
	turns, busy := 0, 0
	for ; turns < e.listeners.Waiting() && busy < callBurst; turns++ {
		if e.serveListener(t, e.listeners.Ready(turns)) {
			busy++
		}
	}
	t.Again = t.Again || turns < e.listeners.Waiting()
	e.listeners.Requeue(turns)
}

// serveListener takes what has come in on one forward, and tells whether that was possible now.
func (e *Acceptor) serveListener(t *shard.Turn, l *listeners.Listener) bool {
	if l.Proto == netpkt.UDP {
		e.udp.ReceiveForwarded(t, l)
		return !t.RXFull
	}
	if l.IsShut() {
		l.Ready = false
		return false
	}
	if e.acceptAt == 0 {
		e.acceptAFew(t, l)
	}
	return e.acceptAt == 0
}

func (e *Acceptor) acceptAFew(t *shard.Turn, l *listeners.Listener) {
	if e.acceptSome(t, l, acceptBurst) == acceptBurst {
		t.Again = true
	}
}

// acceptSome takes up to most connections, and returns how many. If there are fewer, there are no more now.
func (e *Acceptor) acceptSome(t *shard.Turn, l *listeners.Listener, most int) (taken int) {
	for taken < most {
		fd, peer, err := unix.Accept4(int(l.FD), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN {
			l.Ready = false
			return taken
		}
		if err != nil {
			e.acceptFailed(t, err)
			return taken
		}
		taken++
		if _, ok := peer.(*unix.SockaddrUnix); ok {
			e.accept(t, fd, e.unixClient(), l, shard.UnixSocket)
			continue
		}
		e.accept(t, fd, ipaddr.EndpointFrom(hostsock.AddrPortOf(peer, nil)), l, 0)
	}
	return taken
}

// acceptRetry is how long accepting pauses when the process lacks descriptors or memory.
const acceptRetry = int64(100e6)

// acceptFailed deals with connections that ended before they were taken, which are of no interest, and with a lack of
// descriptors or memory: then the rest waits in the kernel for a while.
func (e *Acceptor) acceptFailed(t *shard.Turn, err error) {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		t.OverLimit(limits.Host)
		e.acceptAt = t.Now + acceptRetry
	default:
		t.Again = true
	}
}

// Next returns when connections are accepted again, 0 if nothing waits for that.
func (e *Acceptor) Next() int64 { return e.acceptAt }

// begin lets clients come by a forward.
func (e *Acceptor) begin(index uint32, l listeners.Listener) {
	e.listeners.SetForward(index, &l)
	if e.shard.Worker == nil {
		return // Start does the rest
	}
	e.udp.PrepareForward(&l)
	if e.shard.Listening && e.register(&l) != nil {
		e.shard.OverLimit(limits.Host)
	}
}

// quit lets no more clients come by a forward. Up to most that the kernel has connected still do; it returns how many.
func (e *Acceptor) quit(t *shard.Turn, index uint32, most int) (taken int) {
	l := e.listeners.OfForward(index)
	if e.shard.Listening && e.shard.Worker != nil {
		if l.Proto == netpkt.TCP && !l.IsShut() && e.acceptAt == 0 {
			taken = e.acceptSome(t, l, most)
		}
		e.shard.Worker.Unregister(int(l.FD))
	}
	e.listeners.SetForward(index, nil)
	return taken
}

// A forward may begin at a unix socket of the host instead of a port. Its clients are TCP connections to the guest, which
// come from the gateway. The kernel's calls are the same on both kinds of sockets, but for three differences, each in
// one function: how bytes are dropped (consume), what a short answer means (stopped), and where the kernel counts what was
// not read yet (measure).
//
// A unix socket knows no reset. When the guest resets a connection, the client sees the end of the stream, or an error if
// it has sent what the guest did not take.

// unixClient is where the guest sees clients of a unix socket: at the gateway, which loopback is shown as, with a port of
// no meaning.
func (e *Acceptor) unixClient() ipaddr.Endpoint {
	e.unixPort = e.unixPort%(65535-shard.FirstAnyPort) + 1
	return ipaddr.Endpoint{Addr: e.shard.Nets.V4.Loopback, Port: shard.FirstAnyPort + e.unixPort}
}

// RegisterListeners lets the worker watch the forwards' ports.
func (e *Acceptor) RegisterListeners() error {
	for l := range e.listeners.Forwards() {
		if err := e.register(l); err != nil {
			return err
		}
	}
	return nil
}

// register lets the worker watch the port of a forward.
func (e *Acceptor) register(l *listeners.Listener) error {
	return e.shard.Worker.RegisterInput(int(l.FD), shard.Token(shard.TokenListener, 0, l.Index))
}

// localEnd returns the address to which the client of an accepted connection has connected.
func localEnd(fd int) (e ipaddr.Endpoint, ok bool) {
	a := hostsock.AddrPortOf(unix.Getsockname(fd))
	if !a.IsValid() {
		return e, false
	}
	return ipaddr.EndpointFrom(a), true
}

// accept takes a connection of a forward. kind is UnixSocket or 0.
func (e *Acceptor) accept(t *shard.Turn, fd int, peer ipaddr.Endpoint, l *listeners.Listener, kind shard.Bits) {
	t.Counters.Accepts++
	if !t.HasGuest() {
		e.tcp.Reject(fd, stats.EndNoGuest)
		return
	}
	if kind == shard.UnixSocket {
		hostsock.ReadInline(fd) // one of TCP is as its listener is
	}
	caller := tcp.ProxyState{Source: peer, Version: l.SendProxy}
	if l.SendProxy != 0 {
		caller.Destination, caller.Known = localEnd(fd)
	}
	if l.AcceptProxy {
		e.tcp.AwaitProxyHeader(t, fd, l.Guest, &caller, kind)
		return
	}
	e.tcp.DialGuest(t, fd, l.Guest, &caller, kind)
}
