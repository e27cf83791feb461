package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// A connection to the name server is a connection like others, but for where it leads: the relay chooses the resolver, and another one
// if that does not take the connection, before the guest's SYN is answered. It also looks at what the guest sends.

// connectResolver is connect for a connection to the name server.
func (e *nameRelay) connectResolver(t *turn, key *flowtable.Key, s *segment) (retry bool) {
	if !t.allow(limits.Query) {
		e.tcp.refuse(t, key, s)
		return false
	}
	stream := e.relay.Begin(t.now)
	if stream == nil {
		t.hit(limits.Streams)
		e.tcp.refuse(t, key, s)
		return false
	}
	f, at := e.openStream(t, key, stream, s)
	if f == nil {
		e.relay.GiveUp()
		return at == elsewhere
	}
	e.relay.Started(stream, f.index)
	e.awaitResolver(t, f)
	return false
}

// openStream makes the flow of a stream. It returns nil if there is none to be.
func (e *nameRelay) openStream(t *turn, key *flowtable.Key, stream *namerelay.Stream, s *segment) (*flow, where) {
	if !t.admit(classConnects) {
		e.tcp.refuse(t, key, s)
		return nil, nowhere
	}
	fd, set, ok := e.dial(t, stream, key, s)
	if !ok {
		t.counters.Ends[stats.EndConnectFailed]++
		e.tcp.refuse(t, key, s)
		return nil, nowhere
	}
	return e.tcp.connecting(t, key, fd, set, s)
}

// dial begins to connect to the next resolver that is to be had, as tcpEngine.dial does.
func (e *nameRelay) dial(t *turn, stream *namerelay.Stream, key *flowtable.Key, s *segment) (fd int, set udpSender, ok bool) {
	ok = e.relay.Dial(t.now, stream, func(to netip.AddrPort) (err error) {
		fd, set, err = e.tcp.dial(t, ipaddr.EndpointFrom(to), key, s)
		return err
	})
	return fd, set, ok
}

// awaitResolver sets the time for the host's connect.
func (e *nameRelay) awaitResolver(t *turn, f *flow) {
	t.wheel.Set(f.index, t.now+e.relay.Patience())
}

// streamOf returns the connection to the name server that a flow is, nil if it is none.
func (e *nameRelay) streamOf(f *flow) *namerelay.Stream {
	if f.key.Proto != netpkt.TCP || !e.shard.isQuery(&f.key) {
		return nil
	}
	return e.relay.Find(f.index)
}

// redial connects a flow of which the host's connect has failed, or is not answered, to the next resolver. It reports whether there
// is one.
func (e *nameRelay) redial(t *turn, f *flow, stream *namerelay.Stream) bool {
	fd, set, ok := e.dial(t, stream, &f.key, &segment{hops: usualHops})
	if !ok {
		return false
	}
	if t.replaceSocket(f, fd, set) != nil {
		e.tcp.resetGuest(f, stats.EndNoRoom)
		return true
	}
	e.awaitResolver(t, f)
	return true
}

// resolverRefused is called when the host's connect has failed. It reports whether another resolver is asked.
func (e *nameRelay) resolverRefused(t *turn, f *flow) bool {
	stream := e.streamOf(f)
	if stream == nil {
		return false
	}
	e.relay.Failed(t.now, stream.Resolver())
	return e.redial(t, f, stream)
}

// resolverSilent is called when the host's connect takes long. If there is no other resolver, it is waited for.
func (e *nameRelay) resolverSilent(t *turn, f *flow) {
	stream := e.streamOf(f)
	if stream == nil {
		return
	}
	if silent := stream.Resolver(); e.redial(t, f, stream) {
		e.relay.Failed(t.now, silent)
	}
}

// deliverQueries is deliver for a connection to the name server: what goes on are queries, and no urgent data. They are looked at in
// a copy, which the guest cannot change any more.
func (e *nameRelay) deliverQueries(t *turn, f *flow, iov []guestmem.Iovec, n int) bool {
	stream := e.streamOf(f)
	if stream == nil {
		return e.tcp.deliverTo(t, f, iov, n)
	}
	for offset := 0; offset < n; {
		b := t.slow[:min(n-offset, len(t.slow))]
		guestmem.CopyFrom(b, iov, offset)
		if !stream.Permits(b) {
			t.counters.QueriesRefused++
			e.tcp.resetGuest(f, stats.EndNoQuery)
			return false
		}
		t.pieces[0] = guestmem.PieceOf(b)
		before := f.fromGuest
		whole := e.tcp.deliverTo(t, f, t.pieces[:1], len(b))
		if f.fromGuest > before {
			stream.Sent(b[:f.fromGuest-before])
		}
		if !whole {
			t.counters.TCPRefused += uint64(n - offset - len(b))
			return false
		}
		offset += len(b)
	}
	return true
}

// tendStreams ends connections to the name server that are to end.
func (e *nameRelay) tendStreams(t *turn) {
	for _, i := range e.relay.Streams() {
		f := t.flows.at(i)
		if !t.flows.IsOf(i, t.me) || !e.tcp.isOpen(f) {
			continue
		}
		stream := e.streamOf(f)
		if stream == nil {
			continue
		}
		switch e.relay.Judge(t.now, stream, f.toGuest) {
		case namerelay.Ends:
			_ = unix.Shutdown(int(f.fd), unix.SHUT_RDWR) // so the host's side has ended its stream, as the guest will see
			f.bits |= readable | hungUp
			t.schedule(f)
		case namerelay.Abandoned:
			e.tcp.abandon(f, stats.EndIdle)
		}
	}
}

// endStream takes note that a flow is over, which may be a connection to the name server.
func (e *nameRelay) endStream(f *flow) {
	stream := e.streamOf(f)
	if stream == nil {
		return
	}
	e.relay.Over(e.shard.lastTurn, stream, namerelay.Course{
		FromGuest: f.fromGuest, ToGuest: f.toGuest, Age: e.shard.lastTurn - f.begun,
		EndedByHost: f.bits&hungUp != 0 || e.tcp.hasHostEnded(f),
	})
}
