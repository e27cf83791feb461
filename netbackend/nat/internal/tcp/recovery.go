package tcp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// onSACK takes note of the first bytes beyond its acknowledgement that the guest says it has (RFC 2018 section 3). They
// are not sent again. It may still drop them, so they stay in the socket's queue, and after a timeout they are forgotten.
// It tells whether the guest says so of any.
func (e *Engine) onSACK(f conn, s *Segment) bool {
	if f.tcp.flags&guestSACKs == 0 || len(s.Options) == 0 {
		return false
	}
	c := f.tcp
	lowest := seqnum.Range{}
	s.EachSACK(func(b seqnum.Range) {
		// What lies before the acknowledgement is about segments that came twice (RFC 2883).
		if s.Ack.Before(b.First) && c.sndUna.Before(b.First) && b.First.Before(b.End) && b.End.AtMost(c.sndMax) &&
			(lowest.IsEmpty() || b.First.Before(lowest.First)) {
			lowest = b
		}
	})
	if lowest.IsEmpty() {
		return false
	}
	c.sacked = lowest
	return true
}

// onRTO is called when the guest has not acknowledged in time. It may just not have been running: so only the oldest
// segment is sent again, and its acknowledgement tells whether the others are missing too (after RFC 5682).
func (e *Engine) onRTO(t *shard.Turn, f conn) {
	c := f.tcp
	c.sacked = seqnum.Range{}
	if f.tcp.flags&finSent != 0 || c.sndWnd == 0 {
		e.rewind(f)
		return
	}
	f.tcp.flags |= pendRetransmit | timedOut
	c.dupAcks = 0
	t.Wheel.Set(f.Index, t.Now+c.rto)
}

// afterTimeout follows the first acknowledgement after a timeout. If it is for more than what was sent again, the guest
// has the rest as well, or is about to say what it misses. If not, all the rest is sent again.
func (e *Engine) afterTimeout(f conn, ack seqnum.Value) {
	c := f.tcp
	if !c.sacked.IsEmpty() && ack.AtLeast(c.sacked.First) {
		c.sacked = seqnum.Range{}
	}
	if f.tcp.flags&timedOut == 0 {
		return
	}
	f.tcp.flags &^= timedOut | pendRetransmit
	if ack.AtMost(c.retransmitHigh) && ack != c.sndMax {
		e.rewind(f)
	}
}

// rewind goes back to the oldest byte that the guest has not acknowledged (RFC 6298 section 5.4). All from there on is
// sent again, as far as the guest does not say that it has it.
func (e *Engine) rewind(f conn) {
	e.shard.Counters.Retransmits++
	f.tcp.sndNxt = f.tcp.sndUna
	f.tcp.dupAcks = 0
	f.tcp.flags &^= hostEOF // it is found again behind the data
	f.Bits |= shard.Readable
	if f.tcp.sndWnd == 0 {
		f.tcp.flags |= pendProbe
	}
}

// resend repeats the oldest segment that the guest misses, or all up to what it says it has.
func (e *Engine) resend(t *shard.Turn, f conn) bool {
	c := f.tcp
	f.tcp.flags &^= pendRetransmit
	if f.tcp.flags&finSent != 0 || c.sndUna == c.sndMax {
		return true
	}
	most := min(int(c.mss), int(c.sndMax.Since(c.sndUna)))
	if !c.sacked.IsEmpty() {
		most = int(min(c.sacked.First.Since(c.sndUna), largestFrame))
	}
	t.Counters.Retransmits++
	f.tcp.flags &^= timing
	n := e.sendSegment(t, f, 0, most)
	if n == noRoom {
		f.tcp.flags |= pendRetransmit
		return false
	}
	c.retransmitHigh = c.sndUna.Plus(uint32(n))
	return true
}

// skipSACKed moves sndNxt over what the guest has already, and returns how many bytes may be sent from there on without
// meeting such bytes.
func (c *state) skipSACKed() uint32 {
	if c.sacked.IsEmpty() {
		return maxWindow << netpkt.MaxScale
	}
	if c.sndNxt == c.sacked.First {
		c.sndNxt = c.sacked.End
	}
	if c.sndNxt.Before(c.sacked.First) {
		return c.sacked.First.Since(c.sndNxt)
	}
	return maxWindow << netpkt.MaxScale
}

// SendShorter sends again what is under way, which was too long.
func (e *Engine) SendShorter(t *shard.Turn, of *shard.Flow) {
	f := e.conn(of)
	c := f.tcp
	if f.State != stateOpen || f.tcp.flags&finSent != 0 || c.sndUna == c.sndMax {
		return
	}
	f.tcp.flags &^= recovering | pendRetransmit | timedOut | timing
	c.rto = c.baseRTO()
	t.Wheel.Set(f.Index, t.Now+c.rto)
	e.rewind(f)
	t.Schedule(f.Flow)
}
