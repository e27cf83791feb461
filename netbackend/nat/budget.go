package nat

import (
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/netbackend"
)

// bucket lets events through at a limited rate: as many at once as pass in the time that it takes to fill, and one more every interval. All it
// remembers is when it will be full again. The threads of a guest's queue pairs share it: more pairs are no larger budget.
type bucket struct {
	interval int64        // nanoseconds
	depth    int64        // nanoseconds that it takes to fill
	full     atomic.Int64 // time at which it is full again, or a time that has passed
}

// fill makes b a full bucket for n events at once, and n a second.
func (b *bucket) fill(n int64) { b.fillBurst(n, n) }

// fillBurst makes b a full bucket for burst events at once, and n a second.
func (b *bucket) fillBurst(n, burst int64) {
	b.interval = int64(time.Second) / n
	b.depth = b.interval * burst
}

// take tells whether another event may pass now, and counts it if so.
func (b *bucket) take(now int64) bool {
	for {
		before := b.full.Load()
		full := max(before, now) + b.interval
		if full-now > b.depth {
			return false
		}
		if b.full.CompareAndSwap(before, full) {
			return true
		}
	}
}

// giveBack undoes a take.
func (b *bucket) giveBack(now int64) {
	for {
		before := b.full.Load()
		if before <= now || b.full.CompareAndSwap(before, before-b.interval) {
			return
		}
	}
}

// errand is a kind of frame for which the engine does more than to pass it on: it makes an answer, or takes memory. Each
// kind has a bucket of its own, so that a flood of one costs the guest that kind and nothing else.
type errand uint8

const (
	errandARP errand = iota
	errandNDP        // a message of neighbour discovery
	errandDHCP
	errandEcho  // an echo request to one of the engine's own addresses
	errandQuery // a DNS query
	errandError // something that is answered by an ICMP error
	errandPath  // an ICMP error by which packets to the guest become shorter
	errandGroup // a question to the host's networks; see Config.Multicast
	errandHeard // what these have for the guest
	errands
)

// budgets are what a guest may have of each kind of errand.
type budgets [errands]bucket

// fill sets the budgets. They are far above what a guest needs that means well, and far below what would be felt by another
// one.
func (b *budgets) fill() {
	for e, n := range [errands]int64{
		errandARP:   256, // a question for each address of a /24 at once
		errandNDP:   256,
		errandDHCP:  32, // a boot takes four messages
		errandEcho:  1000,
		errandQuery: 500,  // each may take a socket
		errandError: 1000, // RFC 1812 section 4.3.2.8 asks for a limit
		errandPath:  256,  // one is enough for each path; what is under way to it is sent again
		errandGroup: 100,  // all hosts of a network hear it; a browser of services takes ten
		errandHeard: 500,  // all services of a network may answer at once
	} {
		b[e].fill(n)
	}
}

// afford tells whether another errand of kind e is within the guest's budget. If not, the frame is to be dropped.
func (p *Port) afford(e errand) bool {
	if p.pairs.budgets[e].take(p.now) {
		return true
	}
	p.hit(limit(e))
	return false
}

// limit is something of which a guest can have too much. The first of them are the errands.
type limit uint8

const (
	limitConnects limit = iota + limit(errands)
	limitCalls
	limitAssociations
	limitStrangers
	limitPeers
	limitQueries
	limitStreams
	limitNewFlows
	limitMemory
	limitFlows
	limitSockets
	limitHost
	limits
)

// counterOf returns where hits on a limit are counted.
func (c *Counters) counterOf(l limit) *uint64 {
	return [limits]*uint64{
		limit(errandARP):   &c.ARPOverBudget,
		limit(errandNDP):   &c.NDPOverBudget,
		limit(errandDHCP):  &c.DHCPOverBudget,
		limit(errandEcho):  &c.EchoOverBudget,
		limit(errandQuery): &c.QueriesOverBudget,
		limit(errandError): &c.ErrorsOverBudget,
		limit(errandPath):  &c.PathsOverBudget,
		limit(errandGroup): &c.MulticastOverBudget,
		limit(errandHeard): &c.MulticastAnswersOverBudget,
		limitConnects:      &c.ConnectsEvicted,
		limitCalls:         &c.CallsEvicted,
		limitAssociations:  &c.AssociationsEvicted,
		limitPeers:         &c.PeersEvicted,
		limitStrangers:     &c.StrangersEvicted,
		limitQueries:       &c.QueriesTooMany,
		limitStreams:       &c.ResolverConnectionsTooMany,
		limitNewFlows:      &c.NewFlowsOverRate,
		limitMemory:        &c.BuffersBounded,
		limitFlows:         &c.TableFull,
		limitSockets:       &c.SocketsSpent,
		limitHost:          &c.SocketErrors,
	}[l]
}

func (l limit) String() string {
	return [limits]string{
		limit(errandARP):   "the guest sends more ARP than is answered",
		limit(errandNDP):   "the guest sends more neighbour discovery than is answered",
		limit(errandDHCP):  "the guest sends more DHCP messages than are answered",
		limit(errandEcho):  "the guest pings its router faster than is answered",
		limit(errandQuery): "the guest sends more DNS queries than are passed on",
		limit(errandError): "the guest sends more that leads nowhere than it is told of",
		limit(errandPath):  "the guest calls more packets too big than is followed",
		limit(errandGroup): "the guest sends more multicast than is passed on",
		limit(errandHeard): "the network of --multicast sends more than the guest gets",
		limitConnects:      "the guest has too many connections that nobody has answered; the oldest are given up",
		limitCalls:         "too many forwarded connections wait for the guest's answer; the oldest are given up",
		limitAssociations:  "the guest speaks to too many others by UDP or ping; those idle longest are given up",
		limitPeers:         "too many others speak to the guest through UDP forwards; those idle longest are given up",
		limitStrangers:     "too many others send to the guest that it has not sent to; those let in first are given up",
		limitQueries:       "the guest has too many DNS queries under way; more are answered by SERVFAIL",
		limitStreams:       "the guest has too many connections to the name server; more are refused",
		limitNewFlows:      "the guest begins more connections, UDP flows and pings that nobody answers than it may; others are dropped",
		limitMemory:        "the host's kernel holds much that the guest or its peers do not read; buffers of its sockets are made smaller",
		limitFlows:         "the guest has as many connections as it may have; others are refused",
		limitSockets:       "the guest has as many sockets as it may have; other connections are refused",
		limitHost:          "the host gives no more sockets",
	}[l]
}

// tellInterval is how often the user is told of one limit.
const tellInterval = int64(10e9)

// hit counts that the guest has run into a limit. The user is told, but not each time.
func (p *Port) hit(l limit) {
	n := p.counters.counterOf(l)
	*n++
	if p.now < p.tellAt[l] {
		return
	}
	p.tellAt[l] = p.now + tellInterval
	p.worker.Raise(netbackend.Notice{
		Level: int(slog.LevelWarn), Message: l.String(), Key: "so_far", Value: strconv.FormatUint(*n, 10),
	})
}
