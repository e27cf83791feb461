package nat

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// A connection to the name server by TCP is one to a resolver of the host. The guest's SYN is answered when one has taken it, so
// until then another one can be tried, and the guest learns nothing of it. Later the stream is the resolver's: if it fails, the
// guest sees that, and its next connection goes elsewhere. Guests that keep connections would take the resolver from others, so
// they may have few, which end when no answer has passed for a while (RFC 7766 section 6.2.3).

const (
	streamLook = int64(1e9)  // how often connections are looked at
	streamIdle = int64(10e9) // after how long one ends on which no answer passes
)

// nameStreams are a guest's connections to the name server. All queue pairs share them.
type nameStreams struct {
	stake stake

	open atomic.Int32 // as long as list
	mu   sync.Mutex
	list []*nameStream
}

// nameStream is one of them. It belongs to the thread that has its flow.
type nameStream struct {
	flow      uint32 // index
	to        netip.AddrPort
	asked     []netip.AddrPort // resolvers that were tried
	inspector dns.Inspector
	answered  uint64 // bytes of answers when it was looked at last
	since     int64  // since when there are no more
	ending    bool   // both sides were told that it ends
}

// find returns the connection of a flow, nil if it is none.
func (n *nameStreams) find(f *flow) *nameStream {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.list {
		if s.flow == f.index {
			return s
		}
	}
	return nil
}

func (n *nameStreams) add(s *nameStream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, s)
	n.open.Add(1)
}

func (n *nameStreams) remove(s *nameStream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = slices.DeleteFunc(n.list, func(other *nameStream) bool { return other == s })
	n.open.Add(-1)
}

// flows returns the indices of the flows.
func (n *nameStreams) flows() (list []uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.list {
		list = append(list, s.flow)
	}
	return list
}

// connectResolver is connect for a connection to the name server.
func (e *nameRelay) connectResolver(t *turn, key *flowKey, s *segment) (retry bool) {
	streams := &t.pairs.streams
	if !t.allow(slowQuery) {
		e.tcp.refuse(t, key, s)
		return false
	}
	if !streams.stake.take() {
		t.hit(limitStreams)
		e.tcp.refuse(t, key, s)
		return false
	}
	stream := &nameStream{since: t.now}
	f, at := e.openStream(t, key, stream, s)
	if f == nil {
		streams.stake.give()
		return at == elsewhere
	}
	stream.flow = f.index
	streams.add(stream)
	e.awaitResolver(t, f)
	return false
}

// openStream makes the flow of a stream. It returns nil if there is none to be.
func (e *nameRelay) openStream(t *turn, key *flowKey, stream *nameStream, s *segment) (*flow, where) {
	if !t.admit(classConnects) {
		e.tcp.refuse(t, key, s)
		return nil, nowhere
	}
	fd, set, ok := e.dialNext(t, stream, key, s)
	if !ok {
		t.counters.Ends[endConnectFailed]++
		e.tcp.refuse(t, key, s)
		return nil, nowhere
	}
	return e.tcp.connecting(t, key, fd, set, s)
}

// dialNext begins to connect to the next resolver that is to be had, as dial does.
func (e *nameRelay) dialNext(t *turn, stream *nameStream, key *flowKey, s *segment) (fd int, set udpSender, ok bool) {
	for {
		to, ok := e.relay.Next(t.now, dns.TCP, stream.asked)
		if !ok {
			return -1, set, false
		}
		stream.to, stream.asked = to, append(stream.asked, to)
		fd, set, err := e.tcp.dial(t, ipaddr.EndpointFrom(to), key, s)
		if err == nil {
			return fd, set, true
		}
		if isShortage(err) {
			return -1, set, false
		}
		e.streamFailed(to)
	}
}

// streamFailed lets the next connections go to other resolvers than to.
func (e *nameRelay) streamFailed(to netip.AddrPort) {
	if e.relay.Failed(e.shard.lastTurn, dns.TCP, to) {
		e.tellResolver(to, " by TCP")
	}
}

// awaitResolver sets the time for the host's connect.
func (e *nameRelay) awaitResolver(t *turn, f *flow) {
	t.wheel.Set(f.index, t.now+int64(e.relay.Patience()))
}

// redial connects a flow of which the host's connect has failed, or is not answered, to the next resolver. It reports whether there
// is one.
func (e *nameRelay) redial(t *turn, f *flow) bool {
	if !t.isQuery(&f.key) {
		return false
	}
	stream := t.pairs.streams.find(f)
	if stream == nil {
		return false
	}
	before := stream.to
	fd, set, ok := e.dialNext(t, stream, &f.key, &segment{hops: usualHops})
	if !ok {
		stream.to = before
		return false
	}
	t.worker.Unregister(int(f.fd))
	_ = unix.Close(int(f.fd))
	t.pairs.memory.forget(&f.memory)
	f.fd, f.sender = int32(fd), set
	t.flows.Renew(f.index) // no event of the old socket is one of this
	f.bits &^= readable | writable | hungUp | failed
	if t.register(f) != nil {
		t.hit(limitHost)
		e.tcp.resetGuest(f, endNoRoom)
		return true
	}
	e.awaitResolver(t, f)
	return true
}

// resolverRefused is called when the host's connect has failed. It reports whether another resolver is asked.
func (e *nameRelay) resolverRefused(t *turn, f *flow) bool {
	if !t.isQuery(&f.key) {
		return false
	}
	if stream := t.pairs.streams.find(f); stream != nil {
		e.streamFailed(stream.to)
	}
	return e.redial(t, f)
}

// resolverSilent is called when the host's connect takes long. If there is no other resolver, it is waited for.
func (e *nameRelay) resolverSilent(t *turn, f *flow) {
	stream := t.pairs.streams.find(f)
	if stream == nil {
		return
	}
	silent := stream.to
	if e.redial(t, f) {
		e.streamFailed(silent)
	}
}

// deliverQueries is deliver for a connection to the name server: what goes on are queries, and no urgent data. They are looked at in
// a copy, which the guest cannot change any more.
func (e *nameRelay) deliverQueries(t *turn, f *flow, iov []guestmem.Iovec, n int) bool {
	stream := t.pairs.streams.find(f)
	if stream == nil {
		return e.tcp.deliverTo(t, f, iov, n)
	}
	for offset := 0; offset < n; {
		b := t.slow[:min(n-offset, len(t.slow))]
		guestmem.CopyFrom(b, iov, offset)
		ahead := stream.inspector
		if ahead.Pass(b) != dns.Ordinary {
			t.counters.QueriesRefused++
			e.tcp.resetGuest(f, endNoQuery)
			return false
		}
		t.pieces[0] = guestmem.PieceOf(b)
		before := f.fromGuest
		whole := e.tcp.deliverTo(t, f, t.pieces[:1], len(b))
		if f.fromGuest > before {
			stream.inspector.Pass(b[:f.fromGuest-before])
		}
		if !whole {
			t.counters.TCPRefused += uint64(n - offset - len(b))
			return false
		}
		offset += len(b)
	}
	return true
}

// tendStreams ends connections to the name server on which no answer has passed for a while, or whose resolver is one no more.
func (e *nameRelay) tendStreams(t *turn) {
	if e.streamsAt != 0 && t.now >= e.streamsAt {
		e.tendOpenStreams(t)
	}
}

func (e *nameRelay) tendOpenStreams(t *turn) {
	e.streamsAt = 0
	for _, i := range t.pairs.streams.flows() {
		f := t.flows.at(i)
		if !t.flows.IsOf(i, t.me) || f.state != stateOpen {
			continue
		}
		if s := t.pairs.streams.find(f); s != nil {
			e.tendStream(t, f, s)
		}
	}
}

func (e *nameRelay) tendStream(t *turn, f *flow, s *nameStream) {
	if f.toGuest != s.answered {
		s.answered, s.since = f.toGuest, t.now
	}
	known := e.relay.Knows(t.now, s.to)
	switch idle := t.now - s.since; {
	case idle < streamIdle && known || s.ending && idle < 2*streamIdle:
	case s.ending:
		e.tcp.abandon(f, endIdle)
	default:
		s.ending, s.since = true, t.now
		_ = unix.Shutdown(int(f.fd), unix.SHUT_RDWR) // so the host's side has ended its stream, as the guest will see
		f.bits |= readable | hungUp
		t.run.push(t.flows, f)
	}
}

// streamsNext returns when connections are looked at, 0 for never.
func (e *nameRelay) streamsNext(t *turn) int64 {
	if e.streamsAt == 0 && t.pairs.streams.open.Load() > 0 {
		e.streamsAt = t.now + streamLook
	}
	return e.streamsAt
}

// endStream takes note that a connection to the name server is over. If its resolver has been sent something, and has ended it or
// was silent for long, the next one goes elsewhere.
func (e *nameRelay) endStream(f *flow) {
	if f.key.Proto != netpkt.TCP || !e.shard.isQuery(&f.key) {
		return
	}
	s := e.shard.pairs.streams.find(f)
	if s == nil {
		return
	}
	e.shard.pairs.streams.remove(s)
	e.shard.pairs.streams.stake.give()
	ended := f.bits&(hostEOF|hostReset|hungUp) != 0 && !s.ending
	late := e.shard.lastTurn-f.begun >= int64(e.relay.Patience())
	switch {
	case f.toGuest > 0:
		if e.relay.Answered(e.shard.lastTurn, dns.TCP, s.to) {
			e.tellRecovered(s.to)
		}
	case f.fromGuest > 0 && (ended || late):
		e.streamFailed(s.to)
	}
}
