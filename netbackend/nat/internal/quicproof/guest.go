package quicproof

import (
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/quichello"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

const (
	// maxHeld is of how many associations of a guest something may be kept at once.
	maxHeld = 256
	// maxDatagrams is how many datagrams of an association are kept at most, and maxBytes how many bytes of them. A hello with
	// post-quantum key shares takes two.
	maxDatagrams = 4
	maxBytes     = 8 << 10
	// patience is how long a hello may take from its first datagram on, in nanoseconds.
	patience = int64(5e9)
	// following is how long a hello that was allowed is kept for comparison, in nanoseconds. Clients give up earlier.
	following = int64(10e9)
)

// Guest is what is kept for a guest. Its queue pairs share it.
type Guest struct {
	records flowtable.Slab[record] // each queue pair has those of its own flows
	seen    identifiers

	held   atomic.Int32 // places that are taken
	mu     sync.Mutex
	places [maxHeld]place
}

// record is what is known of an association.
type record struct {
	place uint16 // where something is kept of it, 0 for nowhere
	open  bool   // a name was allowed
}

// place is where something is kept of an association. flow and the times are guarded by the guest's mutex, the rest is the flow's owner's.
type place struct {
	flow  uint32 // index, 0 for none
	since int64  // when the first datagram came that waits for a verdict, 0 if none waits
	until int64  // when the hello is forgotten that was allowed
	kept  *kept
}

// kept is what is kept of an association.
type kept struct {
	reader    quichello.Reader
	allowed   int // the connection whose hello was allowed, as the reader counts them, 0 for none
	current   int // the connection that waiting datagrams belong to
	datagrams []datagram
	bytes     int // of them
}

// datagram is one that waits for a verdict.
type datagram struct {
	bytes  []byte
	manner hostsock.Manner
}

// NewGuest returns that of a guest with a table of flows.
func NewGuest(t *shard.Table) *Guest {
	g := &Guest{records: flowtable.NewSlab[record](t.Table)}
	g.seen.init()
	return g
}

// Held returns of how many associations something is kept, and of how many it may be. Any goroutine may call it.
func (g *Guest) Held() (n, most int) { return int(g.held.Load()), maxHeld }

// take takes a place for a flow, and returns its number from 1 on, 0 if there is none.
func (g *Guest) take(flow uint32) uint16 {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.places {
		p := &g.places[i]
		if p.flow == 0 {
			*p = place{flow: flow, kept: &kept{}}
			g.held.Add(1)
			return uint16(i + 1)
		}
	}
	return 0
}

// give gives a place back.
func (g *Guest) give(n uint16) {
	g.mu.Lock()
	g.places[n-1] = place{}
	g.mu.Unlock()
	g.held.Add(-1)
}

// wait notes that a datagram waits since a time, if none has before.
func (g *Guest) wait(n uint16, since int64) {
	g.mu.Lock()
	if p := &g.places[n-1]; p.since == 0 {
		p.since = since
	}
	g.mu.Unlock()
}

// follow notes that none waits any more, and how long the hello is kept.
func (g *Guest) follow(n uint16, until int64) {
	g.mu.Lock()
	g.places[n-1].since, g.places[n-1].until = 0, until
	g.mu.Unlock()
}

// at returns what is kept at a place. For the owner of its flow.
func (g *Guest) at(n uint16) *kept { return g.places[n-1].kept }

// due returns when the place has to be looked at.
func (p *place) due() int64 {
	if p.since != 0 {
		return p.since + patience
	}
	return p.until
}

// each calls fn for the flows of which something is kept. fn may not give places back.
func (g *Guest) each(fn func(p *place)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.places {
		if p := &g.places[i]; p.flow != 0 {
			fn(p)
		}
	}
}
