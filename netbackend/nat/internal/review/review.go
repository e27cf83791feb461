package review

import (
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// A verdict of the policy holds as long as what it was made from. An address that nobody had, or that was another machine's,
// can become the host's while a flow to it is in use: a bridge for containers is made, a VPN comes up, a failover address
// moves here. The flow would then lead to the host's own services. So
//
//   - when routes have changed, flows to addresses that this concerns are judged again, before the guest's next frame is
//     handled, and end if they are closed now;
//   - when the user replaces the policy, all flows of the guest's are judged again, unless they are to go on whatever
//     it says;
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
	// slice is how long a turn judges flows by a new policy, in nanoseconds. It is counted in what a flow costs, most of which is a
	// question to the routing table (judgeCost), for each rule that it is compared with (ruleCost), and if it ends (endCost).
	slice     = int64(200e3)
	judgeCost = int64(3e3)
	ruleCost  = int64(1)
	endCost   = int64(20e3)
	// reviewPause is the pause for each flow that was judged again, in nanoseconds, and lookPause for each that was not.
	reviewPause = int64(30e3)
	lookPause   = int64(200)
	// leastPause is the shortest pause that is made.
	leastPause = int64(1e6)
)

// Reviewer judges the flows of a queue pair again.
type Reviewer struct {
	shard     *shard.Shard
	policy    *policy.Policy
	routes    *route.Table
	news      *route.News
	tcp       *tcp.Engine
	udp       *udp.Engine
	repoliced *atomic.Int64 // of the guest: when a queue pair adopted a policy last, 0 for never

	keeps     bool   // flows that have begun go on, whatever the policy says of them
	judgeNext uint32 // the record that JudgeSome goes on with, 0 if all are judged
	judgeEach int64  // of a flow by the policy, in nanoseconds
	reviewAt  int64  // flows are not judged again before
	reviewed  int64  // when they were judged again last, 0 for never
}

// Uses are what a Reviewer works with.
type Uses struct {
	Shard     *shard.Shard
	Policy    *policy.Policy
	Routes    *route.Table
	News      *route.News
	TCP       *tcp.Engine
	UDP       *udp.Engine
	Repoliced *atomic.Int64 // of the guest, and 0 at first
}

// SetUp makes that of a queue pair. keeps is as for Adopt.
func (r *Reviewer) SetUp(u Uses, keeps bool) {
	*r = Reviewer{
		shard: u.Shard, policy: u.Policy, routes: u.Routes, news: u.News, tcp: u.TCP, udp: u.UDP, repoliced: u.Repoliced, keeps: keeps,
	}
}

// Adopt follows rules that are new to this pair. With keeps, flows that have begun go on whatever the rules say of them.
func (r *Reviewer) Adopt(rules *policy.Rules, keeps bool) {
	r.policy.Replace(rules)
	r.keeps = keeps
	r.judgeNext, r.judgeEach = shard.FirstRecord, judgeCost+int64(rules.Len())*ruleCost
	if keeps {
		r.judgeNext = 0
	}
}

// JudgeSome judges as many flows by a new policy as there is time for in one turn, if any are left.
func (r *Reviewer) JudgeSome(t *shard.Turn) {
	if r.judgeNext != 0 {
		r.judgeSome(t)
	}
}

func (r *Reviewer) judgeSome(t *shard.Turn) {
	left := slice
	r.judgeNext = t.ForEachFrom(r.judgeNext, func(f *shard.Flow) bool {
		left -= r.judgeEach
		if !r.JudgeAgain(f, stats.EndDenied) {
			left -= endCost
		}
		return left > 0
	})
	r.repoliced.Store(t.Now)
	t.Again = t.Again || r.judgeNext != 0
}

// Review judges the flows again to which the host's news may matter, if it is time.
func (r *Reviewer) Review(t *shard.Turn) {
	changed := r.news.Changes()
	if !changed.Any() || t.Now < r.reviewAt {
		return
	}
	judged := int64(0)
	t.Flows.ForEach(t.Owner, func(f *shard.Flow) {
		if changed.Covers(r.judged(f)) {
			judged++
			r.JudgeAgain(f, stats.EndTakenOver)
		}
	})
	changed.Forget()
	r.reviewed = t.Now
	if pause := judged*reviewPause + int64(t.Flows.Live())*lookPause; pause >= leastPause {
		r.reviewAt = t.Now + pause
	}
}

// Due returns when Review has something to do, 0 for never.
func (r *Reviewer) Due() int64 {
	if !r.news.Changes().Any() {
		return 0
	}
	return r.reviewAt
}

// JudgeMovedIn judges a flow that has come from another queue pair, if flows were judged again a moment ago: it may have been judged
// by neither. It reports whether the flow goes on.
func (r *Reviewer) JudgeMovedIn(f *shard.Flow) bool {
	const moment = int64(1e9)
	lately := func(at int64) bool { return at != 0 && r.shard.LastTurn-at < moment }
	switch {
	case lately(r.repoliced.Load()) && !r.keeps:
		return r.JudgeAgain(f, stats.EndDenied)
	case lately(r.reviewed):
		return r.JudgeAgain(f, stats.EndTakenOver)
	}
	return true
}

// judged returns the address that decides whether f may be.
func (r *Reviewer) judged(f *shard.Flow) *ipaddr.Addr {
	if f.Bits&shard.SharedSocket != 0 {
		return &r.udp.PeerOf(f).Addr
	}
	return &f.Key.Remote
}

// JudgeAgain ends f, which is this pair's, for cause if the policy closes it now. It reports whether f goes on.
func (r *Reviewer) JudgeAgain(f *shard.Flow, cause stats.CloseReason) bool {
	if r.isOpenStill(f, cause) {
		return true
	}
	r.shard.Counters.Withdrawn++
	if f.State == shard.StateLingering {
		r.shard.ResetLingering(f)
		return false
	}
	if f.Key.Proto == netpkt.TCP {
		r.tcp.ResetGuest(f, cause)
		return false
	}
	r.shard.Remove(f)
	return false
}

// isOpenStill reports whether f may go on. If it is judged by a new policy, it would be let through if it began now. If it is judged since
// the host's addresses have changed, its destination is not the host's own: nothing else of a verdict changes with them, and the flow
// may be older than the policy. That of a query is for the relay to say.
func (r *Reviewer) isOpenStill(f *shard.Flow, cause stats.CloseReason) bool {
	if f.Bits&shard.Inbound != 0 {
		return !r.isTakenOver(f)
	}
	if f.Bits&shard.NoSocket != 0 || r.tcp.IsOver(f) || r.shard.IsQuery(&f.Key) || r.udp.IsForBoot(&f.Key) {
		return true
	}
	v := r.policy.JudgeOpened(policy.DestinationOf(&f.Key), r.policy.OpenedBy(f.Index)).Verdict
	return v == policy.Allowed || cause == stats.EndTakenOver && v != policy.IsClosed
}

// isTakenOver tells whether a peer of a UDP forward may be the host now, where it was somebody else when it sent its last
// datagram. If it is the same as ever, its next one begins the flow anew. A connection cannot be taken over: it was made with
// its peer.
func (r *Reviewer) isTakenOver(f *shard.Flow) bool {
	if f.Key.Proto != netpkt.UDP {
		return false
	}
	peer := &r.udp.PeerOf(f).Addr
	return !peer.IsLoopback() && r.routes.IsLocal(peer)
}
