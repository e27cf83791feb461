package nat

import "sync/atomic"

// crowd is a kind of flow that may have to go for another one. An open connection is in none: it ends for its own reasons
// only.
type crowd uint8

const (
	noCrowd           crowd = iota
	crowdConnects           // the guest's connections that are not open yet, and what is left of those that were reset
	crowdCalls              // connections through forwards that the guest has not answered
	crowdAssociations       // the guest's UDP associations and series of pings
	crowdPeers              // UDP associations through forwards; they have no sockets of their own
	crowdStrangers          // ends that a mapping was let in from, and that the guest has not sent to; they have none either
	crowds
)

// most returns how many flows of a crowd the guest may have. So that one kind does not take the place of all others, that is
// a quarter of the table.
func (p *Port) most(c crowd) int {
	n := max(p.cfg.MaxFlows/4, 1)
	if c == crowdStrangers {
		return min(n, maxStrangers)
	}
	return n
}

// limit returns the limit that is hit when a flow of a crowd is given up.
func (c crowd) limit() limit {
	return [crowds]limit{
		crowdConnects: limitConnects, crowdCalls: limitCalls, crowdAssociations: limitAssociations,
		crowdPeers: limitPeers, crowdStrangers: limitStrangers,
	}[c]
}

func (c crowd) String() string {
	return [crowds]string{
		crowdConnects: "unanswered connects", crowdCalls: "unanswered calls", crowdAssociations: "associations",
		crowdPeers: "peers", crowdStrangers: "strangers",
	}[c]
}

// flowList is a list of flows in the order of their last use.
type flowList struct {
	first, last uint32
	count       atomic.Int32 // other queue pairs read it
}

// join puts f, which stands in no crowd, at the end of c.
func (p *Port) join(f *flow, c crowd) {
	p.lineUp(f, c)
	p.crowds[c].count.Add(1)
}

// leave takes f out of its crowd, if it stands in one.
func (p *Port) leave(f *flow) {
	if f.crowd != noCrowd {
		p.crowds[f.crowd].count.Add(-1)
		p.stepOut(f)
	}
}

func (p *Port) lineUp(f *flow, c crowd) {
	l := &p.crowds[c]
	f.crowd, f.crowdPrev, f.crowdNext = c, l.last, none
	if l.last == none {
		l.first = f.index
	} else {
		p.flows.at(l.last).crowdNext = f.index
	}
	l.last = f.index
}

func (p *Port) stepOut(f *flow) {
	l := &p.crowds[f.crowd]
	if f.crowdPrev == none {
		l.first = f.crowdNext
	} else {
		p.flows.at(f.crowdPrev).crowdNext = f.crowdNext
	}
	if f.crowdNext == none {
		l.last = f.crowdPrev
	} else {
		p.flows.at(f.crowdNext).crowdPrev = f.crowdPrev
	}
	f.crowd = noCrowd
}

// used notes that f, which stands in a crowd, was used now.
func (p *Port) used(f *flow) {
	c := f.crowd
	if p.crowds[c].last == f.index {
		return
	}
	p.stepOut(f)
	p.lineUp(f, c)
}

// admit makes room for a flow of the crowd c with a socket of its own. If there are too many of its kind, the one goes
// that was idle longest, of the queue pair that has most. If the table or the guest's share of descriptors is used up, that of
// the largest crowd goes, which is who floods. False means that there is no room: nothing but open connections is left, or
// another pair has yet to give up a flow, as it is asked to.
func (p *Port) admit(c crowd) bool { return p.admitFlow(c) && p.admitSocket() }

// admitFlow is admit for a flow that needs no socket.
func (p *Port) admitFlow(c crowd) bool {
	p.thin(c)
	for p.flows.full() {
		if !p.evict(p.largest(crowdConnects, crowdStrangers)) {
			p.shed(crowdStrangers)
			p.hit(limitFlows)
			return false
		}
	}
	return true
}

// thin makes room for one more flow of a crowd.
func (p *Port) thin(c crowd) { p.thinTo(c, p.most(c)-1) }

// thinTo lets the guest have no more than most flows of a crowd: those of the queue pair that has most go. If that is another
// pair, it goes on in its own turn. Until then there are too many; so there are, by one for each pair, if several make room
// at the same time.
func (p *Port) thinTo(c crowd, most int) {
	for p.members(c) > most {
		if q, _ := p.richest(c, c); q != p {
			q.post.put(func(b *postbox) { b.thin |= 1 << c })
			return
		}
		if !p.evict(c) {
			return
		}
	}
}

// members returns how many flows of a crowd the guest has.
func (p *Port) members(c crowd) (n int) {
	for _, q := range p.pairs.ports {
		n += int(q.crowds[c].count.Load())
	}
	return n
}

// richest returns the queue pair that has the largest of the crowds from first to last, and which one that is.
func (p *Port) richest(first, last crowd) (*Port, crowd) {
	q, c := p, p.largest(first, last)
	for _, other := range p.pairs.ports {
		if k := other.largest(first, last); other.crowds[k].count.Load() > q.crowds[c].count.Load() {
			q, c = other, k
		}
	}
	return q, c
}

// shed has another queue pair give up a flow of the largest of the crowds up to last: this one has none.
func (p *Port) shed(last crowd) {
	if q, c := p.richest(crowdConnects, last); q != p {
		q.post.put(func(b *postbox) { b.shed |= 1 << c })
	}
}

// makeRoom gives up what other pairs have asked for: thin and shed have a bit for each crowd.
func (p *Port) makeRoom(thin, shed uint) {
	for c := crowdConnects; c < crowds; c++ {
		if shed>>c&1 != 0 {
			p.evict(c)
		}
		if thin>>c&1 != 0 {
			p.thinTo(c, p.most(c))
		}
	}
}

func (p *Port) admitSocket() bool {
	for int(p.flows.sockets.Load()) >= p.maxSockets() {
		if !p.evict(p.largest(crowdConnects, crowdAssociations)) {
			p.shed(crowdAssociations)
			p.hit(limitSockets)
			return false
		}
	}
	return true
}

// admitPeer is admit for a datagram of a stranger's that came by a forward. It may take the place of another stranger, and
// of nobody else. No frame is sent: the datagram has its place in the guest's receive ring already.
func (p *Port) admitPeer() bool {
	p.thin(crowdPeers)
	if p.flows.full() && !p.evict(crowdPeers) {
		p.hit(limitFlows)
		return false
	}
	return true
}

// largest returns the largest of this pair's crowds from first to last. Any pair may call it.
func (p *Port) largest(first, last crowd) crowd {
	found := first
	for c := first + 1; c <= last; c++ {
		if p.crowds[c].count.Load() > p.crowds[found].count.Load() {
			found = c
		}
	}
	return found
}

// maxSockets is how many sockets the guest's flows may have, be they of one or mappings. Forwards have the others.
func (p *Port) maxSockets() int { return p.cfg.MaxSockets - p.nForwards }

// evict gives up the flow of a crowd that was idle longest, and tells whether there was one. If that is a connection, both
// sides learn it by a reset.
func (p *Port) evict(c crowd) bool {
	if p.crowds[c].count.Load() == 0 {
		return false
	}
	f := p.flows.at(p.crowds[c].first)
	p.hit(c.limit())
	if f.key.proto == protoTCP && f.state != stateHeader && p.sendBare(&f.key, flagRST|flagACK, f.tcp.sndMax, f.tcp.rcvNxt) {
		p.counters.ResetsSent++
	}
	p.abandon(f, endEvicted)
	return true
}
