package namerelay

import (
	"net/netip"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Guests that keep connections would take the resolver from others, so they may have few, which end when no answer has passed for a
// while (RFC 7766 section 6.2.3).

const (
	streamLook = int64(1e9)  // how often connections are looked at
	streamIdle = int64(10e9) // after how long one ends on which no answer passes
)

// Stream is a connection of the guest's to the name server. It belongs to the thread that has its flow.
type Stream struct {
	flow      uint32 // index
	to        netip.AddrPort
	asked     []netip.AddrPort // resolvers that were tried
	inspector dns.Inspector
	answered  uint64 // bytes of answers when it was looked at last
	since     int64  // since when there are no more
	ending    bool   // both sides were told that it ends
}

// Begin takes a place for a connection, which Started or GiveUp is to follow. It returns nil if the guest has too many.
func (r *Relay) Begin(now int64) *Stream {
	if !r.cfg.Guest.streams.places.Take() {
		return nil
	}
	return &Stream{since: now}
}

// GiveUp gives back the place of a connection that has no flow.
func (r *Relay) GiveUp() { r.cfg.Guest.streams.places.Give() }

// Started takes note of the flow of a connection.
func (r *Relay) Started(s *Stream, flow uint32) {
	s.flow = flow
	r.cfg.Guest.streams.add(s)
}

// Find returns the connection of a flow, nil if it is none.
func (r *Relay) Find(flow uint32) *Stream { return r.cfg.Guest.streams.find(flow) }

// Patience is how long a resolver may take to take a connection, in nanoseconds, until another one is tried.
func (r *Relay) Patience() int64 { return int64(r.relay.Patience()) }

// Dial has connect begin to connect to the next resolver that is to be had, and reports whether it did. A resolver is not to be had if
// connect returns another error than ErrNoRoom, or one of the host's that speaks of a shortage.
func (r *Relay) Dial(now int64, s *Stream, connect func(to netip.AddrPort) error) bool {
	before := s.to
	for {
		to, ok := r.relay.Next(now, dns.TCP, s.asked)
		if !ok {
			break
		}
		s.to, s.asked = to, append(s.asked, to)
		err := connect(to)
		if err == nil {
			return true
		}
		if IsShortage(err) {
			break
		}
		r.failed(now, dns.TCP, to)
	}
	s.to = before
	return false
}

// Resolver returns where s leads.
func (s *Stream) Resolver() netip.AddrPort { return s.to }

// Failed lets the next connections go to other resolvers than to, which takes none.
func (r *Relay) Failed(now int64, to netip.AddrPort) { r.failed(now, dns.TCP, to) }

// Permits reports whether b may follow what the guest has sent on s: it is a part of ordinary queries.
func (s *Stream) Permits(b []byte) bool {
	ahead := s.inspector
	return ahead.Pass(b) == dns.Ordinary
}

// Sent takes note that b was passed on to the resolver.
func (s *Stream) Sent(b []byte) { s.inspector.Pass(b) }

// AreStreamsDue reports whether it is time to look at connections, which is to be done by Streams and Judge.
func (r *Relay) AreStreamsDue(now int64) bool { return r.lookAt != 0 && now >= r.lookAt }

// Streams returns the flows of the guest's connections. Only the thread that has one may judge it.
func (r *Relay) Streams() []uint32 {
	r.lookAt = 0
	return r.cfg.Guest.streams.flows()
}

// End is what is to become of a connection.
type End uint8

const (
	Stays     End = iota
	Ends          // both sides are to be told: no answer has passed for a while, or its resolver is one no more
	Abandoned     // they were told, and the guest has not ended its side
)

// Judge returns what is to become of a connection of which the guest has so many bytes of answers.
func (r *Relay) Judge(now int64, s *Stream, toGuest uint64) End {
	if toGuest != s.answered {
		s.answered, s.since = toGuest, now
	}
	known := r.relay.Knows(now, s.to)
	switch idle := now - s.since; {
	case idle < streamIdle && known || s.ending && idle < 2*streamIdle:
		return Stays
	case s.ending:
		return Abandoned
	}
	s.ending, s.since = true, now
	return Ends
}

// Next returns when queries or connections want attention, 0 for never.
func (r *Relay) Next(now int64) int64 {
	if r.lookAt == 0 && r.cfg.Guest.streams.open.Load() > 0 {
		r.lookAt = now + streamLook
	}
	return netbackend.Earlier(r.queries.wakeAt, r.lookAt)
}

// Course is how a connection went.
type Course struct {
	FromGuest, ToGuest uint64 // bytes
	EndedByHost        bool
	Age                int64 // nanoseconds
}

// Over takes note that a connection is over. If its resolver has been sent something, and has ended it or was silent for long, the next
// one goes elsewhere.
func (r *Relay) Over(now int64, s *Stream, c Course) {
	r.cfg.Guest.streams.remove(s)
	r.cfg.Guest.streams.places.Give()
	switch {
	case c.ToGuest > 0:
		r.answered(now, dns.TCP, s.to)
	case c.FromGuest > 0 && (c.EndedByHost && !s.ending || c.Age >= r.Patience()):
		r.Failed(now, s.to)
	}
}
