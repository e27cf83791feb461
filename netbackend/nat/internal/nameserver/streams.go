package nameserver

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// A connection to the name server is a connection like others, but for where it leads: the relay chooses the resolver, and another one
// if that does not take the connection, before the guest's SYN is answered. It also looks at what the guest sends.

// Connect is connect for a connection to the name server.
func (e *Relay) Connect(t *shard.Turn, key *flowtable.Key, s *tcp.Segment) (retry bool) {
	if !t.Allow(limits.Query) {
		e.tcp.Refuse(t, key, s)
		return false
	}
	stream := e.relay.Begin(t.Now)
	if stream == nil {
		t.OverLimit(limits.Streams)
		e.tcp.Refuse(t, key, s)
		return false
	}
	f, at := e.openStream(t, key, stream, s)
	if f == nil {
		e.relay.GiveUp()
		return at == shard.Elsewhere
	}
	e.relay.Started(stream, f.Index)
	e.awaitResolver(t, f)
	return false
}

// openStream makes the flow of a stream. It returns nil if there is none to be.
func (e *Relay) openStream(t *shard.Turn, key *flowtable.Key, stream *namerelay.Stream, s *tcp.Segment) (*shard.Flow, shard.Where) {
	if !t.Admit(shard.ClassConnects) {
		e.tcp.Refuse(t, key, s)
		return nil, shard.Nowhere
	}
	fd, set, ok := e.dial(t, stream, key, s)
	if !ok {
		t.Counters.Ends[stats.EndConnectFailed]++
		e.tcp.Refuse(t, key, s)
		return nil, shard.Nowhere
	}
	return e.tcp.Connecting(t, key, fd, set, s)
}

// dial begins to connect to the next resolver that is to be had, as Engine.dial does.
func (e *Relay) dial(t *shard.Turn, stream *namerelay.Stream, key *flowtable.Key, s *tcp.Segment) (fd int, set hostsock.Sender, ok bool) {
	ok = e.relay.Dial(t.Now, stream, func(to netip.AddrPort) (err error) {
		fd, set, err = e.tcp.Dial(t, ipaddr.EndpointFrom(to), key, s)
		return err
	})
	return fd, set, ok
}

// awaitResolver sets the time for the host's connect.
func (e *Relay) awaitResolver(t *shard.Turn, f *shard.Flow) {
	t.Wheel.Set(f.Index, t.Now+e.relay.Patience())
}

// streamOf returns the connection to the name server that a flow is, nil if it is none.
func (e *Relay) streamOf(f *shard.Flow) *namerelay.Stream {
	if f.Key.Proto != netpkt.TCP || !e.shard.IsQuery(&f.Key) {
		return nil
	}
	return e.relay.Find(f.Index)
}

// redial connects a flow of which the host's connect has failed, or is not answered, to the next resolver. It reports whether there
// is one.
func (e *Relay) redial(t *shard.Turn, f *shard.Flow, stream *namerelay.Stream) bool {
	fd, set, ok := e.dial(t, stream, &f.Key, &tcp.Segment{HopLimit: shard.UsualHops})
	if !ok {
		return false
	}
	if t.ReplaceSocket(f, fd, set) != nil {
		e.tcp.ResetGuest(f, stats.EndNoRoom)
		return true
	}
	e.awaitResolver(t, f)
	return true
}

// OnRefused is called when the host's connect has failed. It reports whether another resolver is asked.
func (e *Relay) OnRefused(t *shard.Turn, f *shard.Flow) bool {
	stream := e.streamOf(f)
	if stream == nil {
		return false
	}
	e.relay.Failed(t.Now, stream.Resolver())
	return e.redial(t, f, stream)
}

// OnSilent is called when the host's connect takes long. If there is no other resolver, it is waited for.
func (e *Relay) OnSilent(t *shard.Turn, f *shard.Flow) {
	stream := e.streamOf(f)
	if stream == nil {
		return
	}
	if silent := stream.Resolver(); e.redial(t, f, stream) {
		e.relay.Failed(t.Now, silent)
	}
}

// Deliver is deliver for a connection to the name server: what goes on are queries, and no urgent data. They are looked at in
// a copy, which the guest cannot change any more.
func (e *Relay) Deliver(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int) bool {
	stream := e.streamOf(f)
	if stream == nil {
		return e.tcp.DeliverTo(t, f, iov, n)
	}
	for offset := 0; offset < n; {
		b := t.Frame[:min(n-offset, len(t.Frame))]
		guestmem.CopyFrom(b, iov, offset)
		if !stream.Permits(b) {
			t.Drop(&t.Counters.QueriesRefused)
			e.tcp.ResetGuest(f, stats.EndNoQuery)
			return false
		}
		t.Pieces[0] = guestmem.PieceOf(b)
		before := f.FromGuest
		whole := e.tcp.DeliverTo(t, f, t.Pieces[:1], len(b))
		if f.FromGuest > before {
			stream.Sent(b[:f.FromGuest-before])
		}
		if !whole {
			t.Counters.TCPRefused += uint64(n - offset - len(b))
			return false
		}
		offset += len(b)
	}
	return true
}

// tendStreams ends connections to the name server that are to end.
func (e *Relay) tendStreams(t *shard.Turn) {
	for _, i := range e.relay.Streams() {
		f := t.Flows.At(i)
		if !t.Flows.IsOf(i, t.Owner) || !e.tcp.IsOpen(f) {
			continue
		}
		stream := e.streamOf(f)
		if stream == nil {
			continue
		}
		switch e.relay.Judge(t.Now, stream, f.ToGuest) {
		case namerelay.Ends:
			_ = unix.Shutdown(int(f.FD), unix.SHUT_RDWR) // so the host's side has ended its stream, as the guest will see
			f.Bits |= shard.Readable | shard.PeerClosed
			t.Schedule(f)
		case namerelay.Abandoned:
			e.tcp.Drop(f, stats.EndIdle)
		}
	}
}

// OnClosing takes note that a flow is over, which may be a connection to the name server.
func (e *Relay) OnClosing(f *shard.Flow) {
	stream := e.streamOf(f)
	if stream == nil {
		return
	}
	e.relay.Over(e.shard.LastTurn, stream, namerelay.Course{
		FromGuest: f.FromGuest, ToGuest: f.ToGuest, Age: e.shard.LastTurn - f.CreatedAt,
		EndedByHost: f.Bits&shard.PeerClosed != 0 || e.tcp.HasHostEnded(f),
	})
}
