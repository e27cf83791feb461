package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// With another [Filtering] than the strictest, a mapping takes datagrams from ends that the guest has not sent to: a TFTP server
// answers from another port, a telephone from another machine. Each such end is judged by the policy as if the guest sent to it,
// and then has a flow of a crowd of its own, so that strangers take no place of anybody else's. Such a flow needs no socket, does
// not keep the mapping, and ends after strangerTimeout whatever comes: then its end is judged again. When the guest sends to the
// stranger, it is one no more.

const (
	// strangerTimeout is how long a stranger is let in without being judged again, in nanoseconds.
	strangerTimeout = int64(30e9)
	// strangersJudged is how many strangers are judged in a second, of all that send to a guest. What comes beyond is dropped.
	strangersJudged = 1000
	// maxStrangers is how many strangers may be let in at once.
	maxStrangers = 1024
)

// letIn makes a flow for the first datagram of a stranger to a mapping, which has the key that the guest sees; nil if that is
// not let in.
func (p *Port) letIn(s *sharedSocket, c *hostsock.Caller, key *flowKey) *flow {
	if !p.mayLetIn(s, c, key) {
		p.counters.Strangers++
		return nil
	}
	p.thin(crowdStrangers)
	if p.flows.full() && !p.evict(crowdStrangers) {
		p.hit(limitFlows)
		return nil
	}
	f, _ := p.createWith(key, -1, stateUDP, shared, crowdStrangers, udpFlow{peer: c.Peer, via: viaMapping})
	if f == nil {
		return nil
	}
	p.counters.StrangersIn++
	p.wheel.set(f, p.now+strangerTimeout)
	return f
}

// mayLetIn tells whether a stranger's datagrams are for the guest.
func (p *Port) mayLetIn(s *sharedSocket, c *hostsock.Caller, key *flowKey) bool {
	switch p.cfg.UDPFiltering {
	case AddressAndPortDependent:
		return false
	case AddressDependent:
		if !p.pairs.mappings.hasSentTo(s.guest, &c.Peer.Addr) {
			return false
		}
	}
	if !p.pairs.strangers.take(p.now) {
		return false
	}
	to, v := p.policy.destination(key)
	return v == allowed && to == c.Peer
}

// befriend makes an association of a stranger's flow, as the guest sends to the stranger now. It tells whether that could be
// done; if not, the flow is over.
func (p *Port) befriend(f *flow) bool {
	p.thin(crowdAssociations)
	var m *mapping
	if p.isMapped(&f.key) || p.admitSocket() {
		m = p.joinMapping(f.key.guestSide(), &f.udp.peer.Addr)
	}
	if m == nil {
		p.remove(f)
		return false
	}
	p.leave(f)
	p.join(f, crowdAssociations)
	f.fd = m.fd
	p.counters.UDPFlows++
	p.prolong(f)
	return true
}

// hasSentTo tells whether a port of the guest has sent to an address lately.
func (s *mappings) hasSentTo(guest ipaddr.Endpoint, to *ipaddr.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.of[guest]
	return m != nil && m.sentTo[*to] > 0
}
