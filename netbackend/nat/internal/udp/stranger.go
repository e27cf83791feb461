package udp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// With another [Filtering] than the strictest, a mapping takes datagrams from ends that the guest has not sent to: a TFTP server
// answers from another port, a telephone from another machine. Each such end is judged by the policy as if the guest sent to it,
// and then has a flow of a class of its own, so that strangers take no place of anybody else's. Such a flow needs no socket, does
// not keep the mapping, and ends after strangerTimeout whatever comes: then its end is judged again. When the guest sends to the
// stranger, it is one no more.

const (
	// strangerTimeout is how long a stranger is let in without being judged again, in nanoseconds.
	strangerTimeout = int64(30e9)
	// strangersJudged is how many strangers are judged in a second, of all that send to a guest. What comes beyond is dropped.
	strangersJudged = 1000
)

// letIn makes a flow for the first datagram of a stranger to a mapping, which has the key that the guest sees; nil if that is
// not let in.
func (e *Engine) letIn(t *shard.Turn, s *listeners.SharedSocket, c *hostsock.Caller, key *flowtable.Key) *shard.Flow {
	if !e.mayLetIn(t, s, c, key) {
		t.DropToGuest(&t.Counters.Strangers, key)
		return nil
	}
	t.EnforceLimit(shard.ClassStrangers)
	if t.Flows.Full() && !t.Evict(shard.ClassStrangers) {
		t.OverLimit(limits.Flows)
		return nil
	}
	f, _ := t.CreateWith(key, -1, shard.StateActive, shard.SharedSocket, shard.ClassStrangers, e.begin(association{peer: c.Peer, via: viaMapping}))
	if f == nil {
		return nil
	}
	t.Counters.StrangersIn++
	t.Wheel.Set(f.Index, t.Now+strangerTimeout)
	return f
}

// mayLetIn tells whether a stranger's datagrams are for the guest.
func (e *Engine) mayLetIn(t *shard.Turn, s *listeners.SharedSocket, c *hostsock.Caller, key *flowtable.Key) bool {
	switch e.cfg.Filtering {
	case AddressAndPortDependent:
		return false
	case AddressDependent:
		if !e.guest.mappings.hasSentTo(s.Guest, &c.Peer.Addr) {
			return false
		}
	}
	if !e.guest.strangers.Take(t.Now) {
		return false
	}
	d := e.policy.Judge(policy.DestinationOf(key))
	return d.Verdict == policy.Allowed && d.To == c.Peer
}

// befriend makes an association of a stranger's flow, as the guest sends to the stranger now. It tells whether that could be
// done; if not, the flow is over.
func (e *Engine) befriend(t *shard.Turn, f *shard.Flow) bool {
	t.EnforceLimit(shard.ClassAssociations)
	var m *mapping
	if e.isMapped(&f.Key) || t.AdmitSocket() {
		m = e.joinMapping(t, f.Key.GuestSide(), &e.of(f).peer.Addr)
	}
	if m == nil {
		t.Remove(f)
		return false
	}
	d := e.policy.Judge(policy.DestinationOf(&f.Key)) // by which it was let in
	t.LeaveClass(f)
	t.JoinClass(f, shard.ClassAssociations)
	f.FD = m.FD
	t.Counters.UDPFlows++
	e.ledger.Begun(f, ledger.Judged(&d))
	e.prolong(t, f)
	return true
}

// hasSentTo tells whether a port of the guest has sent to an address lately.
func (s *mappings) hasSentTo(guest ipaddr.Endpoint, to *ipaddr.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	return m != nil && m.sentTo[*to] > 0
}
