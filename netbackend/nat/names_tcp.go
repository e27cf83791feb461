package nat

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
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
func (p *Port) connectResolver(key *flowKey, s *segment) (retry bool) {
	streams := &p.pairs.streams
	if !p.afford(errandQuery) {
		p.refuse(key, s)
		return false
	}
	if !streams.stake.take() {
		p.hit(limitStreams)
		p.refuse(key, s)
		return false
	}
	stream := &nameStream{since: p.now}
	f, at := p.openStream(key, stream, s)
	if f == nil {
		streams.stake.give()
		return at == elsewhere
	}
	stream.flow = f.index
	streams.add(stream)
	p.awaitResolver(f)
	return false
}

// openStream makes the flow of a stream. It returns nil if there is none to be.
func (p *Port) openStream(key *flowKey, stream *nameStream, s *segment) (*flow, where) {
	if !p.admit(crowdConnects) {
		p.refuse(key, s)
		return nil, nowhere
	}
	fd, set, ok := p.dialNext(stream, key, s)
	if !ok {
		p.counters.Ends[endConnectFailed]++
		p.refuse(key, s)
		return nil, nowhere
	}
	return p.connecting(key, fd, set, s)
}

// dialNext begins to connect to the next resolver that is to be had, as dial does.
func (p *Port) dialNext(stream *nameStream, key *flowKey, s *segment) (fd int, set udpSender, ok bool) {
	for {
		to, ok := p.services.dns.Next(p.now, dns.TCP, stream.asked)
		if !ok {
			return -1, set, false
		}
		stream.to, stream.asked = to, append(stream.asked, to)
		fd, set, err := p.dial(ipaddr.EndpointFrom(to), key, s)
		if err == nil {
			return fd, set, true
		}
		if isShortage(err) {
			return -1, set, false
		}
		p.streamFailed(to)
	}
}

// streamFailed lets the next connections go to other resolvers than to.
func (p *Port) streamFailed(to netip.AddrPort) {
	if p.services.dns.Failed(p.now, dns.TCP, to) {
		p.tellResolver(to, " by TCP")
	}
}

// awaitResolver sets the time for the host's connect.
func (p *Port) awaitResolver(f *flow) { p.wheel.set(f, p.now+int64(p.services.dns.Patience())) }

// redial connects a flow of which the host's connect has failed, or is not answered, to the next resolver. It reports whether there
// is one.
func (p *Port) redial(f *flow) bool {
	if !p.isQuery(&f.key) {
		return false
	}
	stream := p.pairs.streams.find(f)
	if stream == nil {
		return false
	}
	before := stream.to
	fd, set, ok := p.dialNext(stream, &f.key, &segment{hops: usualHops})
	if !ok {
		stream.to = before
		return false
	}
	p.worker.Unregister(int(f.fd))
	_ = unix.Close(int(f.fd))
	p.pairs.memory.forget(p.flows.memory(f.index))
	f.fd, f.udp.sender = int32(fd), set
	f.gen = (f.gen + 1) & generationMask // no event of the old socket is one of this
	f.bits &^= readable | writable | hungUp | failed
	if p.register(f) != nil {
		p.hit(limitHost)
		p.resetGuest(f, endNoRoom)
		return true
	}
	p.awaitResolver(f)
	return true
}

// resolverRefused is called when the host's connect has failed. It reports whether another resolver is asked.
func (p *Port) resolverRefused(f *flow) bool {
	if !p.isQuery(&f.key) {
		return false
	}
	if stream := p.pairs.streams.find(f); stream != nil {
		p.streamFailed(stream.to)
	}
	return p.redial(f)
}

// resolverSilent is called when the host's connect takes long. If there is no other resolver, it is waited for.
func (p *Port) resolverSilent(f *flow) {
	stream := p.pairs.streams.find(f)
	if stream == nil {
		return
	}
	silent := stream.to
	if p.redial(f) {
		p.streamFailed(silent)
	}
}

// deliverQueries is deliver for a connection to the name server: what goes on are queries, and no urgent data. They are looked at in
// a copy, which the guest cannot change any more.
func (p *Port) deliverQueries(f *flow, iov []guestmem.Iovec, n int) bool {
	stream := p.pairs.streams.find(f)
	if stream == nil {
		return p.deliver(f, iov, n, 0)
	}
	for offset := 0; offset < n; {
		b := p.slow[:min(n-offset, len(p.slow))]
		guestmem.CopyFrom(b, iov, offset)
		ahead := stream.inspector
		if ahead.Pass(b) != dns.Ordinary {
			p.counters.QueriesRefused++
			p.resetGuest(f, endNoQuery)
			return false
		}
		p.pieces[0] = guestmem.PieceOf(b)
		before := f.fromGuest
		whole := p.deliver(f, p.pieces[:1], len(b), 0)
		if f.fromGuest > before {
			stream.inspector.Pass(b[:f.fromGuest-before])
		}
		if !whole {
			p.counters.TCPRefused += uint64(n - offset - len(b))
			return false
		}
		offset += len(b)
	}
	return true
}

// tendStreams ends connections to the name server on which no answer has passed for a while, or whose resolver is one no more.
func (p *Port) tendStreams() {
	if p.streamsAt != 0 && p.now >= p.streamsAt {
		p.tendOpenStreams()
	}
}

func (p *Port) tendOpenStreams() {
	p.streamsAt = 0
	for _, i := range p.pairs.streams.flows() {
		f := p.flows.at(i)
		if p.flows.owner(i).Load() != p.me || f.state != stateOpen {
			continue
		}
		if s := p.pairs.streams.find(f); s != nil {
			p.tendStream(f, s)
		}
	}
}

func (p *Port) tendStream(f *flow, s *nameStream) {
	if f.toGuest != s.answered {
		s.answered, s.since = f.toGuest, p.now
	}
	known := p.services.dns.Knows(p.now, s.to)
	switch idle := p.now - s.since; {
	case idle < streamIdle && known || s.ending && idle < 2*streamIdle:
	case s.ending:
		p.abandon(f, endIdle)
	default:
		s.ending, s.since = true, p.now
		_ = unix.Shutdown(int(f.fd), unix.SHUT_RDWR) // so the host's side has ended its stream, as the guest will see
		f.bits |= readable | hungUp
		p.run.push(p.flows, f)
	}
}

// streamsNext returns when connections are looked at, 0 for never.
func (p *Port) streamsNext() int64 {
	if p.streamsAt == 0 && p.pairs.streams.open.Load() > 0 {
		p.streamsAt = p.now + streamLook
	}
	return p.streamsAt
}

// endStream takes note that a connection to the name server is over. If its resolver has been sent something, and has ended it or
// was silent for long, the next one goes elsewhere.
func (p *Port) endStream(f *flow) {
	if f.key.proto != protoTCP || !p.isQuery(&f.key) {
		return
	}
	s := p.pairs.streams.find(f)
	if s == nil {
		return
	}
	p.pairs.streams.remove(s)
	p.pairs.streams.stake.give()
	ended := f.bits&(hostEOF|hostReset|hungUp) != 0 && !s.ending
	late := p.now-f.begun >= int64(p.services.dns.Patience())
	switch {
	case f.toGuest > 0:
		if p.services.dns.Answered(p.now, dns.TCP, s.to) {
			p.tellRecovered(s.to)
		}
	case f.fromGuest > 0 && (ended || late):
		p.streamFailed(s.to)
	}
}
