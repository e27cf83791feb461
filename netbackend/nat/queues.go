package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// receiveMail does what other queue pairs ask for.
func (p *Port) receiveMail(t *shard.Turn) {
	if t.FoundMore() {
		p.tcp.OnLocated()
	}
	m := t.TakeMail()
	if m == nil {
		return
	}
	for _, i := range m.Flows {
		p.adopt(t.Flows.At(i))
	}
	t.EachRequest(m, p.grant)
	t.EvictRequested(m.OverLimit, m.UnderPressure)
	for _, guest := range m.Mappings {
		p.udp.TendMapping(guest)
	}
	if m.Listen {
		p.takeListeners()
	}
	if m.Listen || m.ShardsChanged {
		p.rebalance()
	}
}

// grant lets a flow go to another pair when the flow has its next turn, which is this one of the Port's.
func (p *Port) grant(key *flowtable.Key, to *shard.Shard) {
	f := p.shard.Flows.Find(key)
	if f == nil || !p.shard.Flows.IsOf(f.Index, p.shard.Owner) {
		to.Wake()
		return
	}
	if p.presence.IsDeparting() { // whoever asks is another guest
		p.drop(f, p.presence.Cause())
		to.Wake()
		return
	}
	p.shard.ScheduleMove(f, to)
}

// handOver gives a flow, which stands on no run list, to the pair that it is to go to.
func (p *Port) handOver(f *shard.Flow) {
	if !p.shard.MoveOut(f) {
		p.adopt(f)
		p.drop(f, stats.EndClosed)
	}
}

// adopt takes a flow that was handed over.
func (p *Port) adopt(f *shard.Flow) {
	if p.shard.MoveIn(f) != nil {
		p.drop(f, stats.EndNoRoom)
		return
	}
	if p.presence.IsDeparting() {
		p.drop(f, p.presence.Cause())
		return
	}
	if !p.shard.Connected && p.shard.Gone != shard.FrontEndGone {
		p.drop(f, stats.EndGuestGone)
		return
	}
	if p.udp.IsOrphan(f) {
		p.shard.Remove(f)
		return
	}
	p.shard.Schedule(f)
	if p.tcp.IsOpen(f) {
		p.tcp.OnMovedIn(f)
		p.proof.OnMoved(&p.turn, f)
	}
	if f.Key.Proto == netpkt.UDP {
		p.quic.OnMoved(&p.turn, f)
	}
	if !p.review.JudgeMovedIn(f) {
		return
	}
	if to := p.shard.Pairs.Lowest(); to != nil && !p.shard.Receiving {
		p.shard.ScheduleMove(f, to) // this pair has ceased to run meanwhile
	}
}

// rebalance gives the listeners, and if this pair does not run all its flows and mappings, to the lowest pair that runs.
func (p *Port) rebalance() {
	to := p.shard.Pairs.Lowest()
	if to == nil || to == p.shard {
		return
	}
	if p.shard.Listening {
		p.giveListeners(to)
	}
	if !p.shard.Receiving {
		p.udp.MoveMappings(to)
	}
	if !p.shard.Receiving && !p.presence.IsDeparting() {
		p.shard.Flows.ForEach(p.shard.Owner, func(f *shard.Flow) {
			p.tcp.ProbeAfterRestart(f) // the driver may be new
			p.shard.ScheduleMove(f, to)
		})
	}
}

func (p *Port) giveListeners(to *shard.Shard) {
	if !to.SendListeners() {
		return
	}
	p.shard.Listening = false
	p.groups.StopListening()
	p.listeners.ReleaseForwards()
}

func (p *Port) takeListeners() {
	p.shard.Listening = true
	if p.listenToHost() != nil {
		p.shard.OverLimit(limits.Host)
	}
}

// CloseMailbox ends what others may leave, and takes what they have left.
func (p *Port) closeMailbox() {
	if p.shard.Alone() {
		return
	}
	for _, i := range p.shard.StopMail() {
		p.adopt(p.shard.Flows.At(i))
	}
	p.abandonAll(stats.EndClosed)
	p.shard.CloseMailbox()
}
