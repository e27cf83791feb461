package nat

import (
	"log/slog"
	"strconv"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/ratelimit"
)

// slowKind is a kind of slow work: the engine does more with a frame than to pass it on. It makes an answer, or takes memory. Each
// kind has a bucket of its own, so that a flood of one costs the guest that kind and nothing else.
type slowKind uint8

const (
	slowARP slowKind = iota
	slowNDP          // a message of neighbour discovery
	slowDHCP
	slowEcho    // an echo request to one of the engine's own addresses
	slowQuery   // a DNS query
	slowError   // something that is answered by an ICMP error
	slowPathMTU // an ICMP error by which packets to the guest become shorter
	slowGroup   // a question to the host's networks; see Config.Multicast
	slowHeard   // what these have for the guest
	slowKinds
)

// budgets are what a guest may have of each kind of slow work.
type budgets [slowKinds]ratelimit.Bucket

// fill sets the budgets. They are far above what a guest needs that means well, and far below what would be felt by another
// one.
func (b *budgets) fill() {
	for e, n := range [slowKinds]int64{
		slowARP:     256, // a question for each address of a /24 at once
		slowNDP:     256,
		slowDHCP:    32, // a boot takes four messages
		slowEcho:    1000,
		slowQuery:   500,  // each may take a socket
		slowError:   1000, // RFC 1812 section 4.3.2.8 asks for a limit
		slowPathMTU: 256,  // one is enough for each path; what is under way to it is sent again
		slowGroup:   100,  // all hosts of a network hear it; a browser of services takes ten
		slowHeard:   500,  // all services of a network may answer at once
	} {
		b[e].Fill(n)
	}
}

// allow reports whether more slow work of kind e is within the guest's budget. If not, the frame is to be dropped.
func (t *turn) allow(e slowKind) bool {
	if t.pairs.budgets[e].Take(t.now) {
		return true
	}
	t.hit(limit(e))
	return false
}

// limit is something of which a guest can have too much. The first of them are the kinds of slow work.
type limit uint8

const (
	limitConnects limit = iota + limit(slowKinds)
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
		limit(slowARP):     &c.ARPOverBudget,
		limit(slowNDP):     &c.NDPOverBudget,
		limit(slowDHCP):    &c.DHCPOverBudget,
		limit(slowEcho):    &c.EchoOverBudget,
		limit(slowQuery):   &c.QueriesOverBudget,
		limit(slowError):   &c.ErrorsOverBudget,
		limit(slowPathMTU): &c.PathsOverBudget,
		limit(slowGroup):   &c.MulticastOverBudget,
		limit(slowHeard):   &c.MulticastAnswersOverBudget,
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
		limit(slowARP):     "the guest sends more ARP than is answered",
		limit(slowNDP):     "the guest sends more neighbour discovery than is answered",
		limit(slowDHCP):    "the guest sends more DHCP messages than are answered",
		limit(slowEcho):    "the guest pings its router faster than is answered",
		limit(slowQuery):   "the guest sends more DNS queries than are passed on",
		limit(slowError):   "the guest sends more that leads nowhere than it is told of",
		limit(slowPathMTU): "the guest calls more packets too big than is followed",
		limit(slowGroup):   "the guest sends more multicast than is passed on",
		limit(slowHeard):   "the network of --multicast sends more than the guest gets",
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

// reportInterval is how often the user is told of one limit.
const reportInterval = int64(10e9)

// hit counts that the guest has run into a limit. The user is told, but not each time.
func (s *shard) hit(l limit) {
	n := s.counters.counterOf(l)
	*n++
	if s.lastTurn < s.nextReport[l] {
		return
	}
	s.nextReport[l] = s.lastTurn + reportInterval
	s.worker.Raise(netbackend.Notice{
		Level: int(slog.LevelWarn), Message: l.String(), Key: "so_far", Value: strconv.FormatUint(*n, 10),
	})
}
