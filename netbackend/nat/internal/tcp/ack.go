package tcp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// The guest's data are acknowledged at the end of the turn that took them, all by one segment. But in a conversation of
// short questions and answers that segment costs the guest an interrupt, and the answer would have carried the
// acknowledgement. So it may wait for a moment (RFC 9293 section 3.8.6.3) where answers have come soon before.

const (
	// delayedAckTime is how long an acknowledgement waits for an answer at most. It is short, since the guest may wait for it
	// before it sends the rest of a question (RFC 9293 section 3.7.4, the algorithm of Nagle).
	delayedAckTime = int64(8e6)
	// trust is how many answers in a row must have come in that time; distrust is where counting begins after one that
	// has not.
	trust    = int8(3)
	distrust = int8(-100)
)

// acknowledge notes that the guest is to be told of n bytes that the host's socket has just taken, and of the end of its
// stream.
func (e *Engine) acknowledge(t *shard.Turn, f conn, n int, fin bool) {
	wait := e.canDelayAck(f, n) && !fin
	f.tcp.heard = t.Now
	if !wait {
		e.schedule(f, unanswered|pendAck)
		return
	}
	e.schedule(f, unanswered|ackDelayed)
	t.Wheel.Set(f.Index, t.Now+delayedAckTime)
}

// canDelayAck tells whether the acknowledgement of n bytes may wait: they are a short question, the first one, with
// nothing under way to the guest whose timer would be in use, and room for more.
func (e *Engine) canDelayAck(f conn, n int) bool {
	c := f.tcp
	mss := uint32(c.mss)
	return c.quickAckScore >= trust && uint32(n) < mss && f.tcp.flags&(pendAck|ackDelayed|stalled) == 0 && e.shard.Wheel.Deadline(f.Index) == 0 &&
		c.sndUna == c.sndMax && c.rcvWndEdge.Since(c.rcvNxt) >= 4*mss
}

// acked takes note that a segment to the guest has carried the acknowledgement.
func (e *Engine) acked(f conn) {
	if f.tcp.flags&ackDelayed != 0 {
		e.shard.Wheel.Set(f.Index, 0)
	}
	f.tcp.flags &^= pendAck | ackDelayed
}

// flushDelayedAck ends the delay of an acknowledgement.
func (e *Engine) flushDelayedAck(f conn) {
	if f.tcp.flags&ackDelayed == 0 {
		return
	}
	e.shard.Wheel.Set(f.Index, 0)
	f.tcp.flags = f.tcp.flags&^ackDelayed | pendAck
}

// answered counts data to the guest that come soon after its own.
func (e *Engine) answered(t *shard.Turn, f conn) {
	if f.tcp.flags&unanswered == 0 {
		return
	}
	f.tcp.flags &^= unanswered
	c := f.tcp
	if t.Now-c.heard > delayedAckTime/2 {
		c.quickAckScore = min(c.quickAckScore, 0)
		return
	}
	c.quickAckScore = min(c.quickAckScore+1, trust)
}

// delayedAckExpired is called when no answer came in time.
func (e *Engine) delayedAckExpired(f conn) {
	f.tcp.quickAckScore = distrust
	f.tcp.flags = f.tcp.flags&^ackDelayed | pendAck
}
