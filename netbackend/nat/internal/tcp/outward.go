package tcp

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/egress"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/proxyclient"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// A connection may leave by a proxy (spec.Way). Then the host's socket leads to the proxy, and what is said with it is said before the
// guest's SYN is answered: the guest sees a refusal as a refusal, and a proxy that is dead as a destination that cannot be reached. Nothing
// ever goes to the destination itself then. The handshake's bytes are peeked at and taken out of the socket's queue exactly, so the queue
// begins with the stream when the connection does.

// Outward is where a connection of the guest leads, and how it leaves the host.
type Outward struct {
	To   ipaddr.Endpoint
	Way  *spec.Way // nil is as the kernel chooses
	Name string    // what the guest has asked for, for proxies to resolve; "" is that only the address is known
}

// Target is where the host's socket leads.
func (o *Outward) Target() ipaddr.Endpoint {
	switch {
	case o.Way == nil:
	case o.Way.Via.IsUsed():
		return ipaddr.EndpointFrom(o.Way.Via.At)
	case o.Way.Redirect.IsValid():
		return ipaddr.EndpointFrom(o.Way.Redirect)
	}
	return o.To
}

// handshake begins what is said with a proxy for a flow, nil if there is none.
func (o *Outward) handshake(key *flowtable.Key) *proxyclient.Handshake {
	switch {
	case o.Way == nil:
	case o.Way.Via.IsUsed():
		return proxyclient.New(&o.Way.Via, proxyclient.Target{Name: o.Name, At: o.To.Netip()})
	case o.Way.Redirect.IsValid():
		guest := key.GuestSide()
		return proxyclient.NewHeader(guest.Netip(), o.To.Netip())
	}
	return nil
}

// proxyPatience is how long connecting to a proxy and the handshake with it may take, in nanoseconds.
const proxyPatience = int64(30e9)

// proxyRead is how much of what a proxy sends is looked at at once, in bytes.
const proxyRead = 4096

// handshakes are those with proxies that are not over. All queue pairs share them.
type handshakes struct {
	mu    sync.Mutex
	under map[uint32]*handshake // by the index of the flow
}

// handshake is one of a connection.
type handshake struct {
	*proxyclient.Handshake
	by string // the proxy, for the log
}

func (s *handshakes) add(index uint32, h *handshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under == nil {
		s.under = map[uint32]*handshake{}
	}
	s.under[index] = h
}

func (s *handshakes) find(index uint32) *handshake {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.under[index]
}

func (s *handshakes) remove(index uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.under, index)
}

// Dial opens a socket for the guest's SYN s, and begins to connect it. It returns how the socket's packets travel.
func (e *Engine) Dial(t *shard.Turn, out *Outward, key *flowtable.Key, s *Segment) (fd int, set hostsock.Sender, err error) {
	to := out.Target()
	fd, err = unix.Socket(to.Addr.Domain(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.OverLimit(limits.Host)
		return -1, set, err
	}
	hostsock.ReadInline(fd)
	if to == out.To {
		e.prepareSocket(fd)
	}
	t.BoundNew(fd, shard.Stream)
	hops := *s
	if to != out.To {
		hops.HopLimit = shard.UsualHops // who traces a route does not trace the one to the proxy
	}
	set = e.depart(fd, &to.Addr, key, &hops)
	if err := e.connectTo(fd, &to, out.Way); err != nil {
		_ = unix.Close(fd)
		return -1, set, err
	}
	return fd, set, nil
}

// connectTo binds a socket as its way says, and begins to connect it. The error is an unix.Errno.
func (e *Engine) connectTo(fd int, to *ipaddr.Endpoint, way *spec.Way) error {
	if err := egress.Bind(fd, to.Addr.Is4(), way); err != nil {
		return e.unbound(err)
	}
	if err := unix.Connect(fd, to.Sockaddr()); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return nil
}

// unbound tells the user why sockets cannot be bound as a way says, and returns what that is for whoever connects.
func (e *Engine) unbound(err error) error {
	e.tellWay("connections cannot leave as they are to, and are refused", "why", err.Error())
	return egress.ErrnoOf(err)
}

// tellWay warns of what is wrong with a way, once for each reason.
func (e *Engine) tellWay(message, key, value string) {
	if e.toldWays.IsNew(value) {
		e.shard.Warn(message, key, value)
	}
}

// Negotiate begins the handshake with a proxy for a connection that Dial has begun, if there is to be one.
func (e *Engine) Negotiate(t *shard.Turn, of *shard.Flow, out *Outward) {
	h := out.handshake(&of.Key)
	if h == nil {
		return
	}
	e.guest.handshakes.add(of.Index, &handshake{h, out.Way.String()})
	e.conn(of).tcp.flags |= byProxy
	t.Wheel.Set(of.Index, t.Now+proxyPatience)
}

// isNegotiated goes on with a handshake with a proxy, and reports whether it is over, and the stream may begin. If it has failed, the
// flow is over.
func (e *Engine) isNegotiated(t *shard.Turn, f conn) bool {
	h := e.guest.handshakes.find(f.Index)
	for {
		if errno := e.sayToProxy(t, f, h); errno != 0 {
			e.proxyFailed(t, f, h, h.Ended())
			return false
		}
		if h.IsDone() {
			break
		}
		more, failure := e.hearProxy(t, f, h)
		if failure != nil {
			e.proxyFailed(t, f, h, failure)
			return false
		}
		if !more {
			return false
		}
	}
	e.guest.handshakes.remove(f.Index)
	f.tcp.flags &^= byProxy
	t.Wheel.Set(f.Index, 0)
	e.prepareSocket(int(f.FD))
	return true
}

// sayToProxy sends what is to be said now, as far as the socket takes it.
func (e *Engine) sayToProxy(t *shard.Turn, f conn, h *handshake) unix.Errno {
	for len(h.Output()) > 0 {
		n, errno := t.Msg.Send(f.FD, append(t.Pieces[:0], guestmem.PieceOf(h.Output())), 0)
		switch errno {
		case 0:
			h.Sent(n)
		case unix.EAGAIN, unix.EINTR, unix.ENOBUFS, unix.ENOMEM:
			return 0 // there is an event when it can be written
		default:
			return errno
		}
	}
	return 0
}

// hearProxy takes what the proxy has sent, if it is a part of the handshake. It reports whether the handshake has got further.
func (e *Engine) hearProxy(t *shard.Turn, f conn, h *handshake) (more bool, failure *proxyclient.Failure) {
	if f.Bits&shard.Readable == 0 {
		return false, nil
	}
	b := e.discardBuf[:proxyRead]
	n, _, errno := t.Msg.Receive(f.FD, append(t.Pieces[:0], guestmem.PieceOf(b)), unix.MSG_PEEK, false)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		f.Bits &^= shard.Readable
		return false, nil
	case errno != 0 || n == 0:
		return false, h.Ended()
	}
	used, failure := h.Input(b[:n])
	if failure != nil {
		return false, failure
	}
	for left := used; left > 0; {
		dropped, errno := hostsock.Discard(f.FD, uint32(left))
		if errno != 0 || dropped == 0 {
			return false, h.Ended()
		}
		left -= dropped
	}
	return used > 0, nil
}

// proxyFailed tells the guest that there is no connection, as the host's own connect would have failed, and the user if the proxy is to blame.
func (e *Engine) proxyFailed(t *shard.Turn, f conn, h *handshake, why *proxyclient.Failure) {
	if why.Faulty {
		e.tellWay("connections by a proxy fail", "why", h.by+": "+why.Why)
	}
	t.KeepDrop(&t.Counters.Ends[stats.EndProxyFailed], &f.Key, false, func() string { return why.Why })
	if e.icmp.SendUnreachableSYN(t, &f.Key, f.tcp.irs, why.Errno) {
		e.Drop(f.Flow, stats.EndProxyFailed)
		return
	}
	e.ResetGuest(f.Flow, stats.EndProxyFailed)
}

// proxyLate ends a connection whose proxy has not connected it in time.
func (e *Engine) proxyLate(t *shard.Turn, f conn) {
	h := e.guest.handshakes.find(f.Index)
	e.proxyFailed(t, f, h, h.Late())
}

// proxyUnreached ends a connection of which the host could not connect to the proxy. The guest is told neither of a time-out, for another
// try would wait as long, nor who on the way to the proxy has said so.
func (e *Engine) proxyUnreached(t *shard.Turn, f conn, errno unix.Errno) {
	if errno == unix.ETIMEDOUT || errno == 0 {
		errno = unix.EHOSTUNREACH
	}
	h := e.guest.handshakes.find(f.Index)
	e.proxyFailed(t, f, h, &proxyclient.Failure{Errno: errno, Why: "the proxy cannot be reached: " + errno.Error(), Faulty: true})
}
