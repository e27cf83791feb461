package namerelay

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/quota"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnscache"
	"github.com/vringnet/vring/netbackend/services/dnsconn"
	"github.com/vringnet/vring/netbackend/services/dnszone"
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
	resolvers *dns.Split
	conns     *dnsconn.Client // to those that are not asked by UDP
	cache     *dnscache.Cache // nil for none
	queries   *quota.Stake
	streams   streams
	zones     atomic.Pointer[dnszone.Zones] // what is answered without a resolver; nil for nothing
}

// NewGuest returns a guest without queries and connections. Close ends what conns does.
func NewGuest(resolvers *dns.Split, conns *dnsconn.Client, of *Quotas) *Guest {
	return &Guest{resolvers: resolvers, conns: conns, queries: of.queries.Stake(), streams: streams{places: of.streams.Stake()}}
}

// Close ends what goes on in the background.
func (g *Guest) Close() { g.conns.Close() }

// UseCache lets answers be kept, before the first query.
func (g *Guest) UseCache() { g.cache = new(dnscache.Cache) }

// Cache returns the answers that are kept, nil if none are.
func (g *Guest) Cache() *dnscache.Cache { return g.cache }

// UseZones lets names of zones be answered without a resolver, in the place of those of before. Any thread may call it.
func (g *Guest) UseZones(z *dnszone.Zones) { g.zones.Store(z) }

// Addresses returns the addresses that a name of a zone has at now. !is is that it is in no zone. Any thread may call it.
func (g *Guest) Addresses(now int64, name string) (addrs []netip.Addr, is bool) {
	return g.zones.Load().Addresses(now, name)
}

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

	news atomic.Int32 // how many have some
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

// all returns the connections.
func (n *streams) all() []*Stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}
