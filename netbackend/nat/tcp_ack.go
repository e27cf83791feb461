package nat

// The guest's data are acknowledged at the end of the turn that took them, all by one segment. But in a conversation of
// short questions and answers that segment costs the guest an interrupt, and the answer would have carried the
// acknowledgement. So it may wait for a moment (RFC 9293 section 3.8.6.3) where answers have come soon before.

const (
	// ackDelay is how long an acknowledgement waits for an answer at most. It is short, since the guest may wait for it
	// before it sends the rest of a question (RFC 9293 section 3.7.4, the algorithm of Nagle).
	ackDelay = int64(8e6)
	// trust is how many answers in a row must have come in that time; distrust is where counting begins after one that
	// has not.
	trust    = int8(3)
	distrust = int8(-100)
)

// acknowledge notes that the guest is to be told of n bytes that the host's socket has just taken, and of the end of its
// stream.
func (p *Port) acknowledge(f *flow, n int, fin bool) {
	wait := p.mayDelayAck(f, n) && !fin
	f.tcp.heard = p.now
	if !wait {
		p.owe(f, unanswered|ackDue)
		return
	}
	p.owe(f, unanswered|ackDelayed)
	p.wheel.set(f, p.now+ackDelay)
}

// mayDelayAck tells whether the acknowledgement of n bytes may wait: they are a short question, the first one, with
// nothing under way to the guest whose timer would be in use, and room for more.
func (p *Port) mayDelayAck(f *flow, n int) bool {
	t := &f.tcp
	mss := uint32(t.mss)
	return t.answers >= trust && uint32(n) < mss && f.bits&(ackDue|ackDelayed|stalled) == 0 && f.deadline == 0 &&
		t.sndUna == t.sndMax && t.rcvEdge-t.rcvNxt >= 4*mss
}

// acked takes note that a segment to the guest has carried the acknowledgement.
func (p *Port) acked(f *flow) {
	if f.bits&ackDelayed != 0 {
		p.wheel.set(f, 0)
	}
	f.bits &^= ackDue | ackDelayed
}

// hastenAck ends the delay of an acknowledgement.
func (p *Port) hastenAck(f *flow) {
	if f.bits&ackDelayed == 0 {
		return
	}
	p.wheel.set(f, 0)
	f.bits = f.bits&^ackDelayed | ackDue
}

// answered counts data to the guest that come soon after its own.
func (p *Port) answered(f *flow) {
	if f.bits&unanswered == 0 {
		return
	}
	f.bits &^= unanswered
	t := &f.tcp
	if p.now-t.heard > ackDelay/2 {
		t.answers = min(t.answers, 0)
		return
	}
	t.answers = min(t.answers+1, trust)
}

// ackWasLate is called when no answer came in time.
func (p *Port) ackWasLate(f *flow) {
	f.tcp.answers = distrust
	f.bits = f.bits&^ackDelayed | ackDue
}
