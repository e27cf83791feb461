package nat

import "encoding/binary"

// seqRange is a range of sequence numbers [first, end), empty if both are the same.
type seqRange struct{ first, end uint32 }

func (s seqRange) empty() bool    { return s.first == s.end }
func (s seqRange) length() uint32 { return s.end - s.first }

// tcpSACK takes note of the first bytes beyond its acknowledgement that the guest says it has (RFC 2018 section 3). They
// are not sent again. It may still drop them, so they stay in the socket's queue, and after a timeout they are forgotten.
// It tells whether the guest says so of any.
func (p *Port) tcpSACK(f *flow, s *segment) bool {
	if f.bits&guestSACKs == 0 || len(s.options) == 0 {
		return false
	}
	t := &f.tcp
	lowest := seqRange{}
	eachSACK(s.options, func(b seqRange) {
		// What lies before the acknowledgement is about segments that came twice (RFC 2883).
		if before(s.ack, b.first) && before(t.sndUna, b.first) && before(b.first, b.end) && atMost(b.end, t.sndMax) &&
			(lowest.empty() || before(b.first, lowest.first)) {
			lowest = b
		}
	})
	if lowest.empty() {
		return false
	}
	t.sacked = lowest
	return true
}

// eachSACK calls fn for the blocks of a segment's SACK option.
func eachSACK(options []byte, fn func(seqRange)) {
	b := findOption(options, optionSACK)
	for ; len(b) >= 8; b = b[8:] {
		fn(seqRange{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])})
	}
}

// timeOut is called when the guest has not acknowledged in time. It may just not have been running: so only the oldest
// segment is sent again, and its acknowledgement tells whether the others are missing too (after RFC 5682).
func (p *Port) timeOut(f *flow) {
	t := &f.tcp
	t.sacked = seqRange{}
	if f.bits&finSent != 0 || t.sndWnd == 0 {
		p.rewind(f)
		return
	}
	f.bits |= resendDue | timedOut
	t.dupAcks = 0
	p.wheel.set(f, p.now+t.rto)
}

// afterTimeout follows the first acknowledgement after a timeout. If it is for more than what was sent again, the guest
// has the rest as well, or is about to say what it misses. If not, all the rest is sent again.
func (p *Port) afterTimeout(f *flow, ack uint32) {
	t := &f.tcp
	if !t.sacked.empty() && atLeast(ack, t.sacked.first) {
		t.sacked = seqRange{}
	}
	if f.bits&timedOut == 0 {
		return
	}
	f.bits &^= timedOut | resendDue
	if atMost(ack, t.resent) && ack != t.sndMax {
		p.rewind(f)
	}
}

// rewind goes back to the oldest byte that the guest has not acknowledged (RFC 6298 section 5.4). All from there on is
// sent again, as far as the guest does not say that it has it.
func (p *Port) rewind(f *flow) {
	p.counters.Retransmits++
	f.tcp.sndNxt = f.tcp.sndUna
	f.tcp.dupAcks = 0
	f.bits = f.bits&^hostEOF | readable // the end is found again behind the data
	if f.tcp.sndWnd == 0 {
		f.bits |= probeDue
	}
}

// resend repeats the oldest segment that the guest misses, or all up to what it says it has.
func (p *Port) resend(f *flow) bool {
	t := &f.tcp
	f.bits &^= resendDue
	if f.bits&finSent != 0 || t.sndUna == t.sndMax {
		return true
	}
	most := min(int(t.mss), int(t.sndMax-t.sndUna))
	if !t.sacked.empty() {
		most = int(min(t.sacked.first-t.sndUna, largestFrame))
	}
	p.counters.Retransmits++
	f.bits &^= timing
	n := p.sendSegment(f, 0, most)
	if n == noRoom {
		f.bits |= resendDue
		return false
	}
	t.resent = t.sndUna + uint32(n)
	return true
}

// skipSACKed moves sndNxt over what the guest has already, and returns how many bytes may be sent from there on without
// meeting such bytes.
func (t *tcpFlow) skipSACKed() uint32 {
	if t.sacked.empty() {
		return maxWindow << maxScale
	}
	if t.sndNxt == t.sacked.first {
		t.sndNxt = t.sacked.end
	}
	if before(t.sndNxt, t.sacked.first) {
		return t.sacked.first - t.sndNxt
	}
	return maxWindow << maxScale
}
