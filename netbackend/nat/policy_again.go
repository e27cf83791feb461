package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// A verdict of the policy holds as long as what it was made from. An address that nobody had, or that was another machine's,
// can become the host's while a flow to it is in use: a bridge for containers is made, a VPN comes up, a failover address
// moves here. The flow would then lead to the host's own services. So
//
//   - when routes have changed, flows to addresses that this concerns are judged again, before the guest's next frame is
//     handled, and end if they are closed now;
//   - when the user replaces the policy, all flows of the guest's are judged again, see Port.SetPolicy, unless they are to go on
//     whatever it says: see Policy.KeepingFlows;
//   - a connect is judged again when it succeeds, for the kernel repeats its SYN, to whoever has the address then.
//
// Between the arrival of an address and the end of flows to it is what a thread takes to begin its next turn: it is woken by
// the news. What it sends in a turn that has begun still goes out. Only for a guest of many flows, on a host whose routes
// change all the time, is it longer: after each look there is a pause, so that no more than a tenth of the thread's time is
// spent so. It is half a second for 16384 flows to addresses of which all have changed.
//
// A new policy is about all flows, so they are judged in slices, one a turn, and turns follow each other until all are judged. In
// between, frames pass, and those of flows that are still to be judged, too. Without rules, 16384 flows take 50 ms; with as many
// rules as there may be, a third of a second.

const (
	// judgeSlice is how long a turn judges flows by a new policy, in nanoseconds. It is counted in what a flow costs, most of which is a
	// question to the routing table (judgeCost), for each rule that it is compared with (ruleCost), and if it ends (endCost).
	judgeSlice = int64(200e3)
	judgeCost  = int64(3e3)
	ruleCost   = int64(1)
	endCost    = int64(20e3)
	// reviewPause is the pause for each flow that was judged again, in nanoseconds, and lookPause for each that was not.
	reviewPause = int64(30e3)
	lookPause   = int64(200)
	// leastPause is the shortest pause that is made.
	leastPause = int64(1e6)
)

// review judges the flows again to which the host's news may matter.
func (p *Port) review(t *shard.Turn) {
	changed := p.news.Changes()
	judged := int64(0)
	t.Flows.ForEach(t.Owner, func(f *shard.Flow) {
		if changed.Covers(p.judged(f)) {
			judged++
			p.judgeAgain(f, stats.EndTakenOver)
		}
	})
	changed.Forget()
	p.reviewed = t.Now
	if pause := judged*reviewPause + int64(t.Flows.Live())*lookPause; pause >= leastPause {
		p.reviewAt = t.Now + pause
	}
}

// reviewDue returns when followRoutes has something to do, 0 for never.
func (p *Port) reviewDue() int64 {
	if !p.news.Changes().Any() {
		return 0
	}
	return p.reviewAt
}

// judgeAdopted judges a flow that has come from another queue pair, if flows were judged again a moment ago: it may have been judged
// by neither. It reports whether the flow goes on.
func (p *Port) judgeAdopted(f *shard.Flow) bool {
	const moment = int64(1e9)
	lately := func(at int64) bool { return at != 0 && p.shard.LastTurn-at < moment }
	switch {
	case lately(p.guest.repoliced.Load()) && !p.adopted.keeps:
		return p.judgeAgain(f, stats.EndDenied)
	case lately(p.reviewed):
		return p.judgeAgain(f, stats.EndTakenOver)
	}
	return true
}

// judged returns the address that decides whether f may be.
func (p *Port) judged(f *shard.Flow) *ipaddr.Addr {
	if f.Bits&shard.SharedSocket != 0 {
		return &p.udp.PeerOf(f).Addr
	}
	return &f.Key.Remote
}

// judgeAgain ends f, which is this pair's, for cause if the policy closes it now. It reports whether f goes on.
func (p *Port) judgeAgain(f *shard.Flow, cause stats.CloseReason) bool {
	if p.isOpenStill(f, cause) {
		return true
	}
	p.shard.Counters.Withdrawn++
	if f.State == shard.StateLingering {
		p.shard.ResetLingering(f)
		return false
	}
	if f.Key.Proto == netpkt.TCP {
		p.tcp.ResetGuest(f, cause)
		return false
	}
	p.shard.Remove(f)
	return false
}

// isOpenStill reports whether f may go on. If it is judged by a new policy, it would be let through if it began now. If it is judged since
// the host's addresses have changed, its destination is not the host's own: nothing else of a verdict changes with them, and the flow
// may be older than the policy. That of a query is for the relay to say.
func (p *Port) isOpenStill(f *shard.Flow, cause stats.CloseReason) bool {
	if f.Bits&shard.Inbound != 0 {
		return !p.isTakenOver(f)
	}
	if p.tcp.IsOver(f) || p.shard.IsQuery(&f.Key) {
		return true
	}
	_, v := p.policy.Judge(policy.DestinationOf(&f.Key))
	return v == policy.Allowed || cause == stats.EndTakenOver && v != policy.IsClosed
}

// isTakenOver tells whether a peer of a UDP forward may be the host now, where it was somebody else when it sent its last
// datagram. If it is the same as ever, its next one begins the flow anew. A connection cannot be taken over: it was made with
// its peer.
func (p *Port) isTakenOver(f *shard.Flow) bool {
	if f.Key.Proto != netpkt.UDP {
		return false
	}
	peer := &p.udp.PeerOf(f).Addr
	return !peer.IsLoopback() && p.routes.IsLocal(peer)
}
