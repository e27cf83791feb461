package nameserver

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// A connection to the name server has no socket: the engine is its other end. What the guest sends is taken while the guest's frames are handled.
// The questions in it are asked when that is over, once in a turn, as are those of which the answers have gone. So the relay is not
// called while it calls, or while TCP works on a flow.

// Connect answers the guest's SYN to the name server.
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
	f, at := e.tcp.AnswerQuestions(t, key, s)
	if f == nil {
		e.relay.GiveUp()
		return at == shard.Elsewhere
	}
	e.relay.Started(stream, f.Index)
	return false
}

// Take takes the first n bytes of iov, which the guest has sent on a connection, as far as there is room. It returns how many.
func (e *Relay) Take(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int) (taken int) {
	stream := e.relay.Find(f.Index)
	n = min(n, namerelay.StreamBuffer-stream.Held())
	for taken < n {
		b := t.Frame[:min(n-taken, len(t.Frame))]
		got := guestmem.CopyFrom(b, iov, taken)
		if got == 0 {
			break
		}
		stream.Take(b[:got])
		taken += got
	}
	return taken
}

// Held returns how many bytes of the guest's wait on a connection, and how many may.
func (e *Relay) Held(f *shard.Flow) (held, most int) {
	return e.relay.Find(f.Index).Held(), namerelay.StreamBuffer
}

// Put writes up to n bytes of answers, from a place on that is counted from the first which the guest has not acknowledged, to offset of iov.
// It returns how many.
func (e *Relay) Put(f *shard.Flow, iov []guestmem.Iovec, offset, place, n int) int {
	return guestmem.CopyTo(iov, offset, e.relay.Find(f.Index).Answers(place, n))
}

// IsComplete reports whether no answer follows those up to a place. guestEnded tells that the guest sends nothing more.
func (e *Relay) IsComplete(f *shard.Flow, place int, guestEnded bool) bool {
	return e.relay.Find(f.Index).IsComplete(place, guestEnded)
}

// Acknowledged takes note that the guest has n bytes more of answers.
func (e *Relay) Acknowledged(t *shard.Turn, f *shard.Flow, n uint32) {
	if e.relay.Find(f.Index).Acknowledged(t.Now, int(n)) {
		t.Again = true
	}
}

// wake lets the thread that has the flow of a connection look at it. The one of this relay does so in its turn.
func (e *Relay) wake(stream *namerelay.Stream) { e.shard.WakeOwner(stream.Flow()) }

// tendStreams looks at connections that have news.
func (e *Relay) tendStreams(t *shard.Turn) {
	for _, stream := range e.relay.Streams() {
		if f := e.flowOf(t, stream); f != nil && stream.TakeNews() && e.tcp.IsOpen(f) {
			e.askAll(t, f, stream)
		}
	}
}

// flowOf returns the flow of a connection, nil if it is not this queue pair's.
func (e *Relay) flowOf(t *shard.Turn, stream *namerelay.Stream) *shard.Flow {
	if i := stream.Flow(); t.Flows.IsOf(i, t.Owner) {
		return t.Flows.At(i)
	}
	return nil
}

// askAll asks what the guest has asked on a connection, and lets TCP look at it: there may be answers, and room for more questions.
func (e *Relay) askAll(t *shard.Turn, f *shard.Flow, stream *namerelay.Stream) {
	for {
		message, ok := stream.Question(t.Now)
		if !ok {
			t.Counters.QueriesRefused++
			t.KeepDrop(&t.Counters.QueriesRefused, &f.Key, false, func() string { return "it is no message" })
			e.tcp.ResetGuest(f, stats.EndNoQuery)
			return
		}
		if message == nil {
			break
		}
		e.ask(t, &namerelay.Client{Key: f.Key, Host: f.Host, Stream: stream}, message)
	}
	f.Bits |= shard.Readable | shard.Writable
	t.Schedule(f)
}

// endStreams ends connections on which nothing passes.
func (e *Relay) endStreams(t *shard.Turn) {
	e.relay.Looked()
	for _, stream := range e.relay.Streams() {
		f := e.flowOf(t, stream)
		if f == nil || !e.tcp.IsOpen(f) {
			continue
		}
		switch stream.Judge(t.Now) {
		case namerelay.Ends:
			f.Bits |= shard.Readable // where TCP finds the end
			t.Schedule(f)
		case namerelay.Abandoned:
			e.tcp.Drop(f, stats.EndIdle)
		}
	}
}

// OnClosing takes note that a flow is over, which may be a connection to the name server.
func (e *Relay) OnClosing(f *shard.Flow) {
	if f.Key.Proto != netpkt.TCP || !e.shard.IsQuery(&f.Key) {
		return
	}
	if stream := e.relay.Find(f.Index); stream != nil {
		e.relay.Over(stream)
	}
}
