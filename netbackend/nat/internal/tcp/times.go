package tcp

import (
	"math"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// Timestamps (RFC 7323 section 3) are in use where the guest's SYN offers them. Ours does not: on a link that neither loses
// nor delays anything they cost a Linux guest more than they tell it. The guest measures its round trips by them, and a
// segment that was on its way for so long that its sequence number could be taken for a newer one is known by its age. Our
// own round trips are measured on our clock, which is finer; only where a segment was repeated does the guest's echo tell
// which of the two was answered.

const (
	// stampUnit is a tick of the clock that the guest sees, in nanoseconds.
	stampUnit = int64(1e6)
	// stampAge, in nanoseconds, is after how much silence a timestamp may have wrapped around (RFC 7323 section 5.5).
	stampAge = int64(24 * 24 * 3600e9)
)

// passesPAWS takes note of the timestamp of a segment, and tells whether the segment is to be looked at: one that is older than
// what came before is not (PAWS, RFC 7323 section 5). A segment without timestamps passes, though the guest has promised
// them: as far as anybody knows it is none the worse.
func (e *Engine) passesPAWS(t *shard.Turn, f conn, s *Segment) bool {
	s.ReadTimes()
	if !s.Timed {
		return true
	}
	c := f.tcp
	if seqnum.From(s.Stamp).Before(seqnum.From(c.recent)) && t.Now-c.heard < stampAge {
		return false
	}
	// Of several segments that one acknowledgement answers, the first one is echoed: the guest is to see the whole delay
	// (section 4.3).
	if s.Seq.AtMost(c.rcvNxt) && f.tcp.flags&(pendAck|ackDelayed) == 0 && e.out.Flow != f.Flow {
		c.recent = s.Stamp
	}
	return true
}

// timestamp is the time that the guest sees. It begins with a number that tells nothing of the host.
func (e *Engine) timestamp(t *shard.Turn, f conn) uint32 {
	return f.tcp.iss.Uint32() + uint32(t.Now/stampUnit)
}

// rttFromTSecr returns how long ago, in nanoseconds, what a segment echoes was sent. It is not ok if that cannot be.
func (e *Engine) rttFromTSecr(t *shard.Turn, f conn, s *Segment) (age int64, ok bool) {
	ticks := e.timestamp(t, f) - s.Echo
	if !s.Timed || ticks > math.MaxInt32 || int64(ticks)*stampUnit > maxRTO {
		return 0, false
	}
	return max(int64(ticks), 1) * stampUnit, true
}

// l4 is where the transport header stands in a frame to the guest.
func (f conn) l4() int { return netpkt.EtherLen + int(f.IPLen) }

// headers is the length of what stands in front of the data of a segment to the guest.
func (f conn) headers() int {
	if f.tcp.flags&guestTimes != 0 {
		return f.l4() + netpkt.TCPLen + netpkt.TimesLen
	}
	return f.l4() + netpkt.TCPLen
}

// writeSegment writes the TCP header of a connection's segment into the frame b, which has room for f.headers().
func (e *Engine) writeSegment(t *shard.Turn, b []byte, f conn, flags uint8, seq seqnum.Value) {
	c := f.tcp
	tcp := b[f.l4():]
	writeHeader(tcp, &f.Key, flags, seq, c.rcvNxt, e.advertise(t, f))
	if c.urgency&hostMarked != 0 {
		c.putMark(tcp, seq)
	}
	if f.tcp.flags&guestTimes != 0 {
		e.writeTimestamps(t, tcp[netpkt.TCPLen:], f)
		netpkt.SetTCPLen(tcp, netpkt.TCPLen+netpkt.TimesLen)
	}
}

func (e *Engine) writeTimestamps(t *shard.Turn, b []byte, f conn) {
	netpkt.PutTimes(b, e.timestamp(t, f), f.tcp.recent)
}
