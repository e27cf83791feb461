package nat

import "github.com/vringnet/vring/netbackend/nat/internal/ipaddr"

// A verdict of the policy holds as long as what it was made from. An address that nobody had, or that was another machine's,
// can become the host's while a flow to it is in use: a bridge for containers is made, a VPN comes up, a failover address
// moves here. The flow would then lead to the host's own services. So
//
//   - when routes have changed, flows to addresses that this concerns are judged again, before the guest's next frame is
//     handled, and end if they are closed now;
//   - a connect is judged again when it succeeds, for the kernel repeats its SYN, to whoever has the address then.
//
// Between the arrival of an address and the end of flows to it is what a thread takes to begin its next turn: it is woken by
// the news. What it sends in a turn that has begun still goes out. Only for a guest of many flows, on a host whose routes
// change all the time, is it longer: after each look there is a pause, so that no more than a tenth of the thread's time is
// spent so. It is half a second for 16384 flows to addresses of which all have changed.

const (
	// reviewPause is the pause for each flow that was judged again, in nanoseconds, and lookPause for each that was not.
	reviewPause = int64(30e3)
	lookPause   = int64(200)
	// leastPause is the shortest pause that is made.
	leastPause = int64(1e6)
)

// review judges the flows again to which the host's news may matter.
func (p *Port) review() {
	changed := p.news.Changes()
	judged := int64(0)
	p.flows.each(p.me, func(f *flow) {
		if changed.Covers(p.judged(f)) {
			judged++
			p.judgeAgain(f)
		}
	})
	changed.Forget()
	p.reviewed = p.now
	if pause := judged*reviewPause + int64(p.flows.live.Load())*lookPause; pause >= leastPause {
		p.reviewAt = p.now + pause
	}
}

// reviewDue returns when followRoutes has something to do, 0 for never.
func (p *Port) reviewDue() int64 {
	if !p.news.Changes().Any() {
		return 0
	}
	return p.reviewAt
}

// reviewedLately tells whether flows were judged again a moment ago. One that came from another queue pair since then may have
// been judged by neither.
func (p *Port) reviewedLately() bool {
	const moment = int64(1e9)
	return p.reviewed != 0 && p.now-p.reviewed < moment
}

// judged returns the address that decides whether f may be.
func (p *Port) judged(f *flow) *ipaddr.Addr {
	if f.bits&shared != 0 {
		return &f.udp.peer.Addr
	}
	return &f.key.remote
}

// judgeAgain ends f, which is this pair's, if the policy closes it now. It tells whether f goes on.
func (p *Port) judgeAgain(f *flow) bool {
	if p.isOpenStill(f) {
		return true
	}
	p.counters.Withdrawn++
	if f.key.proto == protoTCP {
		p.resetGuest(f, endTakenOver)
		return false
	}
	p.remove(f)
	return false
}

// isOpenStill tells whether f would be let through if it began now. That of a query is for the relay to say.
func (p *Port) isOpenStill(f *flow) bool {
	if f.bits&inbound != 0 {
		return !p.isTakenOver(f)
	}
	if f.state == stateReset || p.isQuery(&f.key) {
		return true
	}
	_, v := p.policy.destination(&f.key)
	return v == allowed
}

// isTakenOver tells whether a peer of a UDP forward may be the host now, where it was somebody else when it sent its last
// datagram. If it is the same as ever, its next one begins the flow anew. A connection cannot be taken over: it was made with
// its peer.
func (p *Port) isTakenOver(f *flow) bool {
	peer := &f.udp.peer.Addr
	return f.key.proto == protoUDP && !peer.IsLoopback() && p.policy.routes.IsLocal(peer)
}
