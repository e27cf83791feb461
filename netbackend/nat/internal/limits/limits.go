package limits

import (
	"iter"

	"github.com/vringnet/vring/netbackend/nat/internal/ratelimit"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Work is a kind of slow work: the engine does more with a frame than to pass it on. It makes an answer, or takes memory. Each
// kind has a bucket of its own, so that a flood of one costs the guest that kind and nothing else.
type Work uint8

const (
	ARP Work = iota
	NDP      // a message of neighbour discovery
	DHCP
	Echo    // an echo request to one of the engine's own addresses
	Query   // a DNS query
	Error   // something that is answered by an ICMP error
	PathMTU // an ICMP error by which packets to the guest become shorter
	Group   // a question to the host's networks; see nat.Config.Multicast
	Heard   // what these have for the guest
	Chargen // a datagram that chargen answers by a longer one; see package measure
	Hello   // a datagram with Initial packets of QUIC that has to tell its server
	works
)

// Limit returns the limit that a guest hits who asks for too much of w.
func (w Work) Limit() Limit { return Limit(w) }

// AllWork returns all kinds of slow work.
func AllWork() iter.Seq[Work] {
	return func(yield func(Work) bool) {
		for w := range works {
			if !yield(w) {
				return
			}
		}
	}
}

// String returns what users read of a kind.
func (w Work) String() string {
	return [works]string{
		ARP: "arp", NDP: "ndp", DHCP: "dhcp", Echo: "echo", Query: "new queries", Error: "icmp errors", PathMTU: "path mtu",
		Group: "multicast questions", Heard: "multicast answers", Chargen: "chargen datagrams",
		Hello: "hellos of quic",
	}[w]
}

// Budgets are what a guest may have of each kind of slow work. They are safe for use by all of its threads.
type Budgets struct{ of [works]ratelimit.Bucket }

// Take takes one piece of w out of its budget. False tells that the budget is used up for now.
func (b *Budgets) Take(w Work, now int64) bool { return b.of[w].Take(now) }

// Used returns how much of the budget of w is used up, and how much there can be.
func (b *Budgets) Used(w Work, now int64) (used, most int) { return b.of[w].Used(now) }

// Fill sets the budgets, before they are used. They are far above what a guest needs that means well, and far below what would be
// felt by another one.
func (b *Budgets) Fill() {
	for w, n := range [works]int64{
		ARP:     256, // a question for each address of a /24 at once
		NDP:     256,
		DHCP:    32, // a boot takes four messages
		Echo:    1000,
		Query:   500,  // each may take a socket
		Error:   1000, // RFC 1812 section 4.3.2.8 asks for a limit
		PathMTU: 256,  // one is enough for each path; what is under way to it is sent again
		Group:   100,  // all hosts of a network hear it; a browser of services takes ten
		Heard:   500,  // all services of a network may answer at once
		Chargen: 1000, // an answer may be longer than what it answers
		Hello:   5000, // each is decrypted; a connection takes some three
	} {
		b.of[w].Fill(n)
	}
}

// Limit is something of which a guest can have too much. The first of them are the kinds of slow work.
type Limit uint8

const (
	Connects Limit = iota + Limit(works)
	Calls
	Associations
	Strangers
	Peers
	Queries
	Streams
	Measuring
	NewFlows
	Memory
	Lingering
	Flows
	Sockets
	Host
	count
)

// Counter returns where hits on a limit are counted.
func (l Limit) Counter(c *stats.Counters) *uint64 {
	return [count]*uint64{
		Limit(ARP):     &c.ARPOverBudget,
		Limit(NDP):     &c.NDPOverBudget,
		Limit(DHCP):    &c.DHCPOverBudget,
		Limit(Echo):    &c.EchoOverBudget,
		Limit(Query):   &c.QueriesOverBudget,
		Limit(Error):   &c.ErrorsOverBudget,
		Limit(PathMTU): &c.PathsOverBudget,
		Limit(Group):   &c.MulticastOverBudget,
		Limit(Heard):   &c.MulticastAnswersOverBudget,
		Limit(Chargen): &c.ChargenOverBudget,
		Limit(Hello):   &c.HellosOverBudget,
		Connects:       &c.ConnectsEvicted,
		Calls:          &c.CallsEvicted,
		Associations:   &c.AssociationsEvicted,
		Peers:          &c.PeersEvicted,
		Strangers:      &c.StrangersEvicted,
		Queries:        &c.QueriesTooMany,
		Streams:        &c.ResolverConnectionsTooMany,
		Measuring:      &c.MeasuredTooMany,
		NewFlows:       &c.NewFlowsOverRate,
		Memory:         &c.BuffersBounded,
		Lingering:      &c.LingeringEvicted,
		Flows:          &c.TableFull,
		Sockets:        &c.SocketsSpent,
		Host:           &c.SocketErrors,
	}[l]
}

// Refuses reports whether what comes beyond the limit is refused. Otherwise something older goes, or smaller.
func (l Limit) Refuses() bool {
	return l < Connects || l == Queries || l == Streams || l == Measuring || l == NewFlows || l >= Flows
}

// String returns what the user reads.
func (l Limit) String() string {
	return [count]string{
		Limit(ARP):     "the guest sends more ARP than is answered",
		Limit(NDP):     "the guest sends more neighbour discovery than is answered",
		Limit(DHCP):    "the guest sends more DHCP messages than are answered",
		Limit(Echo):    "the guest pings its router faster than is answered",
		Limit(Query):   "the guest sends more DNS queries than are passed on",
		Limit(Error):   "the guest sends more that leads nowhere than it is told of",
		Limit(PathMTU): "the guest calls more packets too big than is followed",
		Limit(Group):   "the guest sends more multicast than is passed on",
		Limit(Heard):   "the network of --multicast sends more than the guest gets",
		Limit(Chargen): "the guest asks for more datagrams of chargen than are answered",
		Limit(Hello):   "the guest begins more connections of QUIC than are looked at",
		Connects:       "the guest has too many connections that nobody has answered; the oldest are given up",
		Calls:          "too many forwarded connections wait for the guest's answer; the oldest are given up",
		Associations:   "the guest speaks to too many others by UDP or ping; those idle longest are given up",
		Peers:          "too many others speak to the guest through UDP forwards; those idle longest are given up",
		Strangers:      "too many others send to the guest that it has not sent to; those let in first are given up",
		Queries:        "the guest has too many DNS queries under way; more are answered by SERVFAIL",
		Streams:        "the guest has too many connections to the name server; more are refused",
		Measuring:      "the guest has too many connections to services of --measure; more are refused",
		NewFlows:       "the guest begins more connections, UDP flows and pings that nobody answers than it may; others are dropped",
		Memory:         "the host's kernel holds much that the guest or its peers do not read; buffers of its sockets are made smaller",
		Lingering:      "peers have not taken the end of many connections that are over, and the kernel holds it; the oldest are reset",
		Flows:          "the guest has as many connections as it may have; others are refused",
		Sockets:        "the guest has as many sockets as it may have; other connections are refused",
		Host:           "the host gives no more sockets",
	}[l]
}

// reportInterval is how often the user is told of one limit, in nanoseconds.
const reportInterval = int64(10e9)

// Reports are when the user may be told of limits again. The zero value has told of none.
type Reports struct{ next [count]int64 }

// Hit counts a hit on l, and returns how many there were. tell reports whether the user is to be told of it.
func (r *Reports) Hit(c *stats.Counters, l Limit, now int64) (n uint64, tell bool) {
	counter := l.Counter(c)
	*counter++
	if now < r.next[l] {
		return *counter, false
	}
	r.next[l] = now + reportInterval
	return *counter, true
}
