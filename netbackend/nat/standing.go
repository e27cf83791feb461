package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
)

// Standings of flows without states of their own. Those of connections are TCP's.
const (
	standsAssociated = shard.MaxStandings - 1 - iota
	standsPinging
)

// Names of the states of flows that are no connections, or none any more.
const (
	stateAssociated = "associated"
	statePinging    = "pinging"
	stateLingering  = "lingering" // both sides have ended, and the peer has yet to take the rest
)

// FlowStates are all values of FlowInfo.State, without what stands in parentheses.
func FlowStates() []string {
	return append([]string{stateAssociated, statePinging, stateLingering}, tcp.StateNames()...)
}

// created takes note of a new flow, and of where it stands.
func (p *Port) created(f *shard.Flow) {
	p.ledger.Created(f)
	switch f.Key.Proto {
	case netpkt.UDP:
		p.shard.Flows.Stand(f, standsAssociated)
	case netpkt.ICMP:
		p.shard.Flows.Stand(f, standsPinging)
	default:
		p.tcp.Begun(f)
	}
}

// StateCount is how many flows have a state.
type StateCount struct {
	State string // one of FlowStates
	Flows int
}

// States returns how many flows the guest has of each state, whatever queue pair they belong to, in the order of FlowStates. Anybody may call it at
// any time.
func (p *Port) States() []StateCount {
	flows := p.shard.Flows
	all := []StateCount{
		{stateAssociated, flows.Standing(standsAssociated)}, {statePinging, flows.Standing(standsPinging)},
		{stateLingering, p.shard.ClassSize(shard.ClassLingering)},
	}
	for i, name := range tcp.StateNames() {
		all = append(all, StateCount{name, flows.Standing(shard.Standing(i + 1))})
	}
	return all
}
