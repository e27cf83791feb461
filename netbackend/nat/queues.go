package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// receiveMail does what other queue pairs ask for.
func (p *Port) receiveMail(t *turn) {
	if t.foundMore() {
		p.tcp.located()
	}
	m := t.takeMail()
	if m == nil {
		return
	}
	for _, i := range m.flows {
		p.adopt(t.flows.at(i))
	}
	t.eachRequest(m, p.grant)
	t.evictRequested(m.overLimit, m.underPressure)
	for _, guest := range m.mappings {
		p.udp.tendMapping(guest)
	}
	if m.listen {
		p.takeListeners()
	}
	if m.listen || m.shardsChanged {
		p.rebalance()
	}
}

// grant lets a flow go to another pair when the flow has its next turn, which is this one of the Port's.
func (p *Port) grant(key *flowtable.Key, to *shard) {
	f := p.shard.flows.lookup(key)
	if f == nil || !p.shard.flows.IsOf(f.index, p.shard.me) {
		to.wake()
		return
	}
	if p.isDeparting() { // whoever asks is another guest
		p.drop(f, p.departure.cause)
		to.wake()
		return
	}
	p.shard.scheduleMove(f, to)
}

// handOver gives a flow, which stands on no run list, to the pair that it is to go to.
func (p *Port) handOver(f *flow) {
	if !p.shard.moveOut(f) {
		p.adopt(f)
		p.drop(f, stats.EndClosed)
	}
}

// adopt takes a flow that was handed over.
func (p *Port) adopt(f *flow) {
	if p.shard.moveIn(f) != nil {
		p.drop(f, stats.EndNoRoom)
		return
	}
	if p.isDeparting() {
		p.drop(f, p.departure.cause)
		return
	}
	if !p.shard.connected && p.shard.gone != frontEndGone {
		p.drop(f, stats.EndGuestGone)
		return
	}
	if p.udp.isOrphan(f) {
		p.shard.remove(f)
		return
	}
	p.shard.schedule(f)
	if p.tcp.isOpen(f) {
		p.tcp.watchAdopted(f)
	}
	if !p.judgeAdopted(f) {
		return
	}
	if to := p.shard.pairs.lowest(); to != nil && !p.shard.receiving {
		p.shard.scheduleMove(f, to) // this pair has ceased to run meanwhile
	}
}

// rebalance gives the listeners, and if this pair does not run all its flows and mappings, to the lowest pair that runs.
func (p *Port) rebalance() {
	to := p.shard.pairs.lowest()
	if to == nil || to == p.shard {
		return
	}
	if p.shard.listening {
		p.giveListeners(to)
	}
	if !p.shard.receiving {
		p.udp.giveMappings(to)
	}
	if !p.shard.receiving && !p.isDeparting() {
		p.shard.flows.each(p.shard.me, func(f *flow) {
			p.tcp.probeAfterRestart(f) // the driver may be new
			p.shard.scheduleMove(f, to)
		})
	}
}

func (p *Port) giveListeners(to *shard) {
	if !to.sendListeners() {
		return
	}
	p.shard.listening = false
	p.groups.stopListeningToGroups()
	p.listeners.quitForwards()
}

func (p *Port) takeListeners() {
	p.shard.listening = true
	if p.listenToHost() != nil {
		p.shard.hit(limits.Host)
	}
}

// closeMailbox ends what others may leave, and takes what they have left.
func (p *Port) closeMailbox() {
	if p.shard.alone() {
		return
	}
	for _, i := range p.shard.stopMail() {
		p.adopt(p.shard.flows.at(i))
	}
	p.abandonAll(stats.EndClosed)
	p.shard.closeMailbox()
}
