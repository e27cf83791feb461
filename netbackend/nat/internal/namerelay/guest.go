package namerelay

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/quota"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnscache"
)

// ErrNoRoom tells that a resolver was not asked for want of a socket. It does not speak against the resolver.
var ErrNoRoom = errors.New("no room for a socket")

// Quotas are what guests may hold of the host's resolvers: queries under way, and connections.
type Quotas struct{ queries, streams *quota.Quota }

// NewQuotas returns quotas that leave room for the host itself: dnsmasq, which many hosts have, answers 150 queries and
// 20 connections at once, and refuses more.
func NewQuotas() *Quotas { return &Quotas{queries: quota.New(120, 60), streams: quota.New(12, 4)} }

// Guest is what the relays of a guest's queue pairs share. It is safe for use by their threads.
type Guest struct {
	resolvers *dns.Relay
	cache     *dnscache.Cache // nil for none
	queries   *quota.Stake
	streams   streams
}

// NewGuest returns a guest without queries and connections.
func NewGuest(resolvers *dns.Relay, of *Quotas) *Guest {
	return &Guest{resolvers: resolvers, queries: of.queries.Stake(), streams: streams{places: of.streams.Stake()}}
}

// UseCache lets answers be kept, before the first query.
func (g *Guest) UseCache() { g.cache = new(dnscache.Cache) }

// Cache returns the answers that are kept, nil if none are.
func (g *Guest) Cache() *dnscache.Cache { return g.cache }

// forgetAnswers forgets the answers that are kept.
func (g *Guest) forgetAnswers() {
	if g.cache != nil {
		g.cache.Clear()
	}
}

// Queries returns how many queries are under way, and how many may be at most.
func (g *Guest) Queries() (held, most int) { return g.queries.Used() }

// Streams returns how many connections to the name server there are, and how many may be at most.
func (g *Guest) Streams() (held, most int) { return g.streams.places.Used() }

// streams are a guest's connections to the name server.
type streams struct {
	places *quota.Stake

	open atomic.Int32 // as long as list
	mu   sync.Mutex
	list []*Stream
}

// find returns the connection of a flow, nil if it is none.
func (n *streams) find(flow uint32) *Stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.list {
		if s.flow == flow {
			return s
		}
	}
	return nil
}

func (n *streams) add(s *Stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, s)
	n.open.Add(1)
}

func (n *streams) remove(s *Stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = slices.DeleteFunc(n.list, func(other *Stream) bool { return other == s })
	n.open.Add(-1)
}

// flows returns the indices of the flows.
func (n *streams) flows() (list []uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.list {
		list = append(list, s.flow)
	}
	return list
}
