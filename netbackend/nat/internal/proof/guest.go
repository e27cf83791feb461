package proof

import (
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/httphead"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tlshello"
)

const (
	// maxHeld is of how many connections of a guest bytes may be kept at once.
	maxHeld = 256
	// maxBytes is how many bytes of a connection are kept at most.
	maxBytes = tlshello.MaxLen
	// patience is how long a hello or head may take from its first byte on, in nanoseconds.
	patience = int64(5e9)
)

// Guest is what is kept for a guest. Its queue pairs share it.
type Guest struct {
	records flowtable.Slab[record] // each queue pair has those of its own flows

	held   atomic.Int32 // places that are taken
	mu     sync.Mutex
	places [maxHeld]place
}

// place is where the bytes of a connection are kept. flow and since are guarded by the guest's mutex, the rest is the flow's owner's.
type place struct {
	flow  uint32 // index, 0 for none
	since int64  // of the first byte that is not decided on, 0 if nothing waits for the guest
	kept  *kept
}

// kept are bytes of a connection that were acknowledged to the guest, and that the host's socket has not got.
type kept struct {
	bytes   []byte
	decided int // how many of them, from the first on, may go to the socket
	looked  int // how many of them were looked at

	hello tlshello.Reader
	head  httphead.Scanner
}

// NewGuest returns that of a guest with a table of flows.
func NewGuest(t *shard.Table) *Guest {
	return &Guest{records: flowtable.NewSlab[record](t.Table)}
}

// take takes a place for a flow, and returns its number from 1 on, 0 if there is none.
func (g *Guest) take(flow uint32, now int64) uint16 {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.places {
		p := &g.places[i]
		if p.flow == 0 {
			*p = place{flow: flow, since: now, kept: &kept{}}
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

// wait notes since when the guest is waited for, 0 if it is not any more.
func (g *Guest) wait(n uint16, since int64) {
	g.mu.Lock()
	g.places[n-1].since = since
	g.mu.Unlock()
}

// at returns what is kept at a place. For the owner of its flow.
func (g *Guest) at(n uint16) *kept { return g.places[n-1].kept }

// waiting calls fn for the flows of which the guest is waited for, with the time since when. fn may not give places back.
func (g *Guest) waiting(fn func(flow uint32, since int64)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.places {
		if p := &g.places[i]; p.flow != 0 && p.since != 0 {
			fn(p.flow, p.since)
		}
	}
}

// Held returns of how many connections bytes are kept, and of how many they may be. Any goroutine may call it.
func (g *Guest) Held() (n, most int) { return int(g.held.Load()), maxHeld }
