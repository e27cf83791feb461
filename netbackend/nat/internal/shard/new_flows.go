package shard

import (
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/ratelimit"
)

// Each flow that the guest begins costs the host more than a frame: a socket, and on hosts that track connections an entry that stays
// for up to two minutes after the flow. So flows that nobody has answered yet have a rate, with a large burst: a program may begin
// thousands at once. A flow that is answered is given back. So who talks to others does not find the limit, and who scans
// networks does. What is over it is dropped, as on a busy network: a SYN comes again.

const (
	// newFlowRate is how many flows that nobody answers a guest may begin in a second, when it has used its burst.
	newFlowRate = 500
	// usualNewFlows is KernelLimits.UnansweredFlows by default: as many as a guest may have at all. With the rate, and the two minutes for
	// which the kernel remembers a SYN that nobody answers, a guest has 76000 entries in the host's table of connections, and all
	// guests of a process have 153000, of usually 262144.
	usualNewFlows = 16384
)

// NewFlows is what a guest may begin that nobody has answered. Its queue pairs share it.
type NewFlows struct {
	own   ratelimit.Bucket // all that it begins
	share ratelimit.Bucket // of all guests together it has an equal share, which others cannot take,
	// common is where guests take what is beyond their shares. It has as much as the shares together.
	common *ratelimit.Bucket
}

// NewCommonFlows returns what all guests of a process may begin beyond their shares.
func NewCommonFlows(burst int) *ratelimit.Bucket {
	b := new(ratelimit.Bucket)
	b.FillBurst(newFlowRate, int64(burst))
	return b
}

// fill makes n full.
func (n *NewFlows) fill(l *KernelLimits) {
	n.own.FillBurst(newFlowRate, int64(l.UnansweredFlows))
	n.share.FillBurst(newFlowRate, int64(l.UnansweredFlows))
	n.share.Slow(int64(l.guests))
	n.common = l.commonFlows
}

// Used returns how many flows that nobody has answered the guest has begun lately, and how many it may. Anybody may call it.
func (n *NewFlows) Used(now int64) (used, most int) { return n.own.Used(now) }

// take tells whether another flow may begin now, and counts it if so.
func (n *NewFlows) take(now int64) bool {
	if !n.own.Take(now) {
		return false
	}
	if n.share.Take(now) || n.common.Take(now) {
		return true
	}
	n.own.GiveBack(now)
	return false
}

// giveBack undoes a take. What was taken from the common part goes to the guest's share, if that has room: all guests together
// never get more than they took.
func (n *NewFlows) giveBack(now int64) {
	n.own.GiveBack(now)
	n.share.GiveBack(now)
}

// MayBegin tells whether the guest may begin a flow now. Then it is to be told what has become of it, see began.
func (t *Turn) MayBegin() bool {
	if t.Pairs.NewFlows.take(t.Now) {
		return true
	}
	t.OverLimit(limits.NewFlows)
	return false
}

// Began takes note of a flow for which MayBegin was asked. f is nil if it could not be made; if it is elsewhere, its frame comes
// again, and asks again.
func (t *Turn) Began(f *Flow, at Where) {
	switch {
	case f != nil:
		f.Bits |= IsNew
	case at == Elsewhere:
		t.Pairs.NewFlows.giveBack(t.Now)
	}
}

// WasAnswered takes note that somebody has answered f, which IsNew.
func (t *Turn) WasAnswered(f *Flow) {
	f.Bits &^= IsNew
	t.Pairs.NewFlows.giveBack(t.Now)
}
