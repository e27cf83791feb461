package namerelay

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Guests that keep connections would take the name server from others, so they may have few, which end when nothing has passed for a
// while (RFC 7766 section 6.2.3).

const (
	streamLook = int64(1e9)  // how often connections are looked at
	streamIdle = int64(10e9) // after how long one ends on which nothing passes

	// StreamBuffer is how many bytes of a connection wait to be asked at most: more than the guest sends before its window is measured.
	StreamBuffer = 16 << 10
	// maxPipelined is how many questions of a connection are under way at once. The next ones wait.
	maxPipelined = 16
	// maxUnread is how many bytes of answers a guest may leave unread until its next questions wait.
	maxUnread = 64 << 10
)

// Stream is a connection of the guest's to the name server: messages, each with its length in front (RFC 1035 section 4.2.2). Several questions
// may be under way (RFC 7766 section 6.2.1.1), and answers go out in the order in which they come. The questions are asked by Relay.Ask.
//
// It belongs to the thread that has its flow. Only answers come from others, too: of queue pairs that had the flow when the question came.
type Stream struct {
	flow   uint32 // index
	of     *streams
	in     []byte // what the guest has sent, and what nobody was asked about yet
	since  int64  // when a question was taken last, or something of an answer
	ending bool   // the guest was told that it ends

	mu      sync.Mutex
	out     []byte // answers, which the guest has not acknowledged
	awaited int    // questions whose answers are not there yet
	waits   bool   // a question waits until answers have gone
	news    bool   // something has come since Stream was looked at
	over    bool   // nobody takes answers any more
}

// Begin takes a place for a connection, which Started or GiveUp is to follow. It returns nil if the guest has too many.
func (r *Relay) Begin(now int64) *Stream {
	if !r.cfg.Guest.streams.places.Take() {
		return nil
	}
	return &Stream{of: &r.cfg.Guest.streams, since: now}
}

// GiveUp gives back the place of a connection that has no flow.
func (r *Relay) GiveUp() { r.cfg.Guest.streams.places.Give() }

// Started takes note of the flow of a connection.
func (r *Relay) Started(s *Stream, flow uint32) {
	s.flow = flow
	s.of.add(s)
}

// Find returns the connection of a flow, nil if it is none.
func (r *Relay) Find(flow uint32) *Stream { return r.cfg.Guest.streams.find(flow) }

// Flow returns the index of the flow that s is.
func (s *Stream) Flow() uint32 { return s.flow }

// Held returns how many bytes wait to be asked.
func (s *Stream) Held() int { return len(s.in) }

// Take takes what the guest sends, which is StreamBuffer bytes with those that are Held at most.
func (s *Stream) Take(b []byte) {
	s.in = append(s.in, b...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell()
}

// tell lets the thread that has the flow look at s. It requires mu.
func (s *Stream) tell() {
	if !s.news && !s.over {
		s.news = true
		s.of.news.Add(1)
	}
}

// Question takes the next question, which is to be asked; nil is that none is there, or that it waits until answers have gone. !ok is that what the
// guest sends is no message: its length is impossible, or longer than any question.
func (s *Stream) Question(now int64) (message []byte, ok bool) {
	n, ok := s.next()
	switch {
	case !ok:
		return nil, false
	case n == 0 || s.ending || !s.expect():
		return nil, true
	}
	message = bytes.Clone(s.in[lengthLen : lengthLen+n])
	s.in = s.in[lengthLen+n:]
	s.since = now
	return message, true
}

// lengthLen is how many bytes a message's length has.
const lengthLen = 2

// next returns how long the first message is that waits, 0 if it is not whole. !ok is that there can be no such message.
func (s *Stream) next() (n int, ok bool) {
	const headerLen = 12
	if len(s.in) < lengthLen {
		return 0, true
	}
	n = int(binary.BigEndian.Uint16(s.in))
	switch {
	case n < headerLen || n > dns.MaxQuery:
		return 0, false
	case len(s.in) < lengthLen+n:
		return 0, true
	}
	return n, true
}

// expect makes room for one more answer, if there is any.
func (s *Stream) expect() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = s.awaited >= maxPipelined || len(s.out) >= maxUnread
	if s.waits {
		return false
	}
	s.awaited++
	return true
}

// answer appends an answer; nil is that a question gets none. Any thread may call it.
func (s *Stream) answer(message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaited--
	s.tell()
	if s.over || message == nil {
		return
	}
	s.out = binary.BigEndian.AppendUint16(s.out, uint16(len(message)))
	s.out = append(s.out, message...)
}

// Answers returns up to most bytes of answers from a place on, counted from the first that the guest has not acknowledged. They are good until
// Acknowledged.
func (s *Stream) Answers(place, most int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	place = min(place, len(s.out))
	return s.out[place:min(place+most, len(s.out))]
}

// Acknowledged takes note that the guest has n bytes more. It reports whether a question may go on that has waited for that.
func (s *Stream) Acknowledged(now int64, n int) (goesOn bool) {
	s.since = now
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out = s.out[min(n, len(s.out)):]; len(s.out) == 0 {
		s.out = nil
	}
	goesOn = s.waits && s.awaited < maxPipelined && len(s.out) < maxUnread
	if goesOn {
		s.tell()
	}
	return goesOn
}

// IsComplete reports whether no answer follows those up to a place, as Answers counts it. guestEnded tells that the guest sends nothing more.
func (s *Stream) IsComplete(place int, guestEnded bool) bool {
	n, _ := s.next()
	s.mu.Lock()
	defer s.mu.Unlock()
	return place >= len(s.out) && (s.ending || guestEnded && s.awaited == 0 && n == 0)
}

// HasNews reports whether something has come on any connection that nobody has looked at.
func (r *Relay) HasNews() bool { return r.cfg.Guest.streams.news.Load() > 0 }

// TakeNews reports whether something has come on s since it was last called.
func (s *Stream) TakeNews() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeNews()
}

// takeNews requires mu.
func (s *Stream) takeNews() bool {
	if !s.news {
		return false
	}
	s.news = false
	s.of.news.Add(-1)
	return true
}

// AreStreamsDue reports whether it is time to look at connections, which is to be done by Streams and Judge.
func (r *Relay) AreStreamsDue(now int64) bool { return r.lookAt != 0 && now >= r.lookAt }

// Looked takes note that connections are looked at.
func (r *Relay) Looked() { r.lookAt = 0 }

// Streams returns the guest's connections. Only the thread that has the flow of one may use it.
func (r *Relay) Streams() []*Stream { return r.cfg.Guest.streams.all() }

// End is what is to become of a connection.
type End uint8

const (
	Stays     End = iota
	Ends          // the guest is to be told: nothing has passed for a while
	Abandoned     // it was told, and has not ended its side
)

// Judge returns what is to become of a connection. A question that is not whole counts for nothing, and neither do answers that the guest does not
// take. A question that is under way is answered, late or by SERVFAIL.
func (s *Stream) Judge(now int64) End {
	idle := now - s.since
	switch {
	case s.ending && idle >= 2*streamIdle:
		return Abandoned
	case s.ending || idle < streamIdle || s.isAwaiting():
		return Stays
	}
	s.ending, s.since = true, now
	return Ends
}

func (s *Stream) isAwaiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.awaited > 0
}

// Next returns when queries or connections want attention, 0 for never.
func (r *Relay) Next(now int64) int64 {
	if r.lookAt == 0 && r.cfg.Guest.streams.open.Load() > 0 {
		r.lookAt = now + streamLook
	}
	return netbackend.Earlier(r.queries.wakeAt, r.lookAt)
}

// Over takes note that a connection is over. Answers that come for it are thrown away.
func (r *Relay) Over(s *Stream) {
	s.mu.Lock()
	s.takeNews()
	s.over, s.out = true, nil
	s.mu.Unlock()
	s.of.remove(s)
	s.of.places.Give()
}
