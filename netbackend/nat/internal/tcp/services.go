package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// A connection to a service of package measure, or to the name server, has no socket: the engine is its other end. It goes the way of all
// others through this package. Only what would be done to the socket is done here instead.

// nameServer is the service that the engine is to who asks for names, beside those of package measure, which have the numbers of their ports, too.
const nameServer = measure.Service(shard.DNSPort)

// discardWindow is the window in bytes of a service that throws away what it gets.
const discardWindow = 4 << 20

// answer answers the guest's SYN to a service.
func (e *Engine) answer(t *shard.Turn, key *flowtable.Key, s *Segment, service measure.Service) (retry bool) {
	buffer, ok := e.guest.Services.Begin(service)
	if !ok {
		t.OverLimit(limits.Measuring)
		e.Refuse(t, key, s)
		return false
	}
	f, at := e.answerAs(t, key, s, service)
	if f == nil {
		e.guest.Services.End(service, buffer)
		return at == shard.Elsewhere
	}
	t.Counters.Measured++
	e.conn(f).tcp.buffer = buffer
	return false
}

// AnswerQuestions answers the guest's SYN to the name server. It returns nil if there is no flow; the guest is told then, unless another queue
// pair has made one.
func (e *Engine) AnswerQuestions(t *shard.Turn, key *flowtable.Key, s *Segment) (*shard.Flow, shard.Where) {
	return e.answerAs(t, key, s, nameServer)
}

// answerAs makes the flow of a connection to a service, nil if that cannot be done.
func (e *Engine) answerAs(t *shard.Turn, key *flowtable.Key, s *Segment, service measure.Service) (*shard.Flow, shard.Where) {
	if !t.AdmitFlow(shard.ClassConnects) {
		e.Refuse(t, key, s)
		return nil, shard.Nowhere
	}
	created, at := t.Create(key, -1, stateSynRcvd, shard.NoSocket, shard.ClassConnects)
	switch at {
	case shard.Elsewhere:
		return nil, at
	case shard.Nowhere:
		e.Refuse(t, key, s)
		return nil, at
	}
	t.Counters.TCPFlows++
	f := e.begin(created)
	c := f.tcp
	c.service = service
	c.irs, c.rcvNxt = s.Seq, s.Seq.Plus(1)
	c.rcvWndEdge = c.rcvNxt.Plus(synWindow)
	c.iss = seqnum.From(t.Identity.Initial(key, t.Now))
	c.sndUna, c.sndNxt, c.sndMax = c.iss, c.iss.Plus(1), c.iss.Plus(1)
	c.rto = initialRTO
	e.takeOptions(f, s)
	e.schedule(f, pendSYN)
	return created, shard.Here
}

// OnClosing takes note that a flow of TCP is about to end.
func (e *Engine) OnClosing(f *shard.Flow) {
	if e.conn(f).tcp.flags&byProxy != 0 {
		e.guest.handshakes.remove(f.Index)
	}
	if c := e.conn(f).tcp; f.Bits&shard.NoSocket != 0 && c.service != nameServer {
		e.guest.Services.End(c.service, c.buffer)
	}
}

// take gives a service the first n bytes of iov, as sending gives them to a socket, and returns how many it took.
func (e *Engine) take(t *shard.Turn, f conn, iov []guestmem.Iovec, n int) (taken int) {
	switch f.tcp.service {
	case nameServer:
		return e.hooks.Resolver.Take(t, f.Flow, iov, n)
	case measure.Echo:
		f.Bits |= shard.Readable
		return e.guest.Services.Buffer(f.tcp.buffer).Take(iov, n)
	}
	return n
}

// produce puts what a service has for the guest from offset on, counted from sndUna, to its place in frames, as peek does.
func (e *Engine) produce(f conn, offset uint32, frames [][]guestmem.Iovec, each int) (n int) {
	headers := f.headers()
	for _, iov := range frames {
		most := min(each, shard.Capacity(iov)-headers)
		put := e.put(f, iov, headers, int(offset)+n, most)
		n += put
		if put < most {
			e.produced(f, int(offset)+n, n > 0)
			break
		}
	}
	return n
}

// put writes up to n bytes that a service has for the guest from a place on, counted from sndUna, behind the headers of a frame.
func (e *Engine) put(f conn, iov []guestmem.Iovec, headers, place, n int) int {
	switch f.tcp.service {
	case nameServer:
		return e.hooks.Resolver.Put(f.Flow, iov, headers, place, n)
	case measure.Chargen:
		return e.guest.Pattern.Put(iov, headers, f.ToGuest+uint64(place), n)
	case measure.Echo:
		return e.guest.Services.Buffer(f.tcp.buffer).Put(iov, headers, place, n)
	}
	return 0
}

// produced takes note that a service has nothing at a place, counted from sndUna, for now or for ever. more tells that there is something in front
// of it that the guest gets first.
func (e *Engine) produced(f conn, place int, more bool) {
	ended := e.hasServed(f, place)
	if ended && more {
		return // the end is found behind them
	}
	f.Bits &^= shard.Readable
	if ended {
		f.tcp.flags |= hostEOF
	}
}

// hasServed reports whether the stream of a service ends at a place, counted from sndUna. It does where the guest has ended its own, but for chargen,
// which always has more, and for the name server, which answers what it was asked and ends an idle connection itself.
func (e *Engine) hasServed(f conn, place int) bool {
	ended := f.tcp.flags&guestFIN != 0
	if f.tcp.service == nameServer {
		return e.hooks.Resolver.IsComplete(f.Flow, place, ended)
	}
	return ended
}

// acknowledged takes note that the guest has n bytes more of a service's, which may have room again by that.
func (e *Engine) acknowledged(t *shard.Turn, f conn, n uint32) {
	switch f.tcp.service {
	case nameServer:
		e.hooks.Resolver.Acknowledged(t, f.Flow, n)
	case measure.Echo:
		b := e.guest.Services.Buffer(f.tcp.buffer)
		b.Drop(int(n))
		if f.tcp.flags&stalled != 0 && b.Len() < measure.BufferLen*2/3 { // as the kernel's sockets do
			f.Bits |= shard.Writable
		}
	}
}

// room returns how many bytes a service may have of the guest's, and how many it has.
func (e *Engine) room(f conn) (size, queued uint32) {
	switch f.tcp.service {
	case nameServer:
		held, most := e.hooks.Resolver.Held(f.Flow)
		return uint32(most), uint32(held)
	case measure.Echo:
		return measure.BufferLen, uint32(e.guest.Services.Buffer(f.tcp.buffer).Len())
	}
	return discardWindow, 0
}

// endStream tells the host's side that the guest has ended its stream.
func (e *Engine) endStream(f *shard.Flow) {
	if f.Bits&shard.NoSocket != 0 {
		f.Bits |= shard.Readable // see produced
		e.shard.Schedule(f)
		return
	}
	_ = unix.Shutdown(int(f.FD), unix.SHUT_WR) // if the host is gone, reading tells so
}
