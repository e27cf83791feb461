package nat

import (
	"encoding/binary"
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/dhcp"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnscache"
	"github.com/vringnet/vring/netbackend/services/dnszone"
	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/netbackend/services/lease"
)

// maxPool is how many addresses there are, in each version of IP, for hosts beside the one that has the guest's.
const maxPool = 64

func newLeases(cfg *Config, h *hosts.Table) (l dhcp.Leases) {
	link4, link6 := cfg.links()
	book := func(link *lease.Link, primary, first netip.Addr, count int, own ...netip.Addr) *lease.Book {
		fixed := hostconf.Fixed(cfg.Hosts.Leases, primary.Is4())
		for _, other := range cfg.Others {
			for mac, a := range fixed {
				if a == other {
					delete(fixed, mac) // the host is another guest's
				}
			}
		}
		return lease.New(lease.Config{
			Link: link, Primary: primary, First: first, Count: count, Never: append(own, cfg.Others...), Fixed: fixed,
			User: func(a netip.Addr) [6]byte {
				addr := ipaddr.From(a)
				if id := h.User(&addr); id != hosts.Any {
					return hosts.UnpackMAC(h.MAC(id))
				}
				return [6]byte{}
			},
			Heard: func(mac [6]byte) int64 { return h.HeardAt(hosts.PackMAC(mac)) },
		})
	}
	first, count := pool4(cfg.Prefix)
	if cfg.Shared {
		count = 0 // the addresses are other hosts'
	}
	named := spec.RedirectedAddresses(cfg.Redirects)
	l.V4 = book(link4, cfg.Guest, first, count, append(named, cfg.Gateway, cfg.DNS)...)
	if cfg.Prefix6.IsValid() {
		first := cfg.Prefix6.Masked().Addr().As16()
		first[13] = 1 // ::1:0, away from the addresses of other guests
		count6 := maxPool
		if cfg.Shared {
			count6 = 0
		}
		l.V6 = book(link6, cfg.Guest6, netip.AddrFrom16(first), count6, append(named, cfg.Gateway6, cfg.DNS6)...)
	}
	return l
}

// pool4 returns the pool of a network of IPv4, which are its last addresses but the one for broadcasts.
func pool4(network netip.Prefix) (first netip.Addr, count int) {
	hosts := uint32(1) << (32 - network.Bits())
	n := min(maxPool, max(hosts/2, 1)-1)
	base := network.Masked().Addr().As4()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])+hosts-1-n)
	return netip.AddrFrom4(b), int(n)
}

// Lease is an address that one of the guest's hosts has by DHCP.
type Lease = lease.Lease

// Leases returns the addresses that the guest's hosts have by DHCP, and those that the configuration gives to hosts: of IPv4, then of IPv6. now is
// by the clock of Turn. Any goroutine may call it.
func (p *Port) Leases(now int64) []Lease {
	l := &p.guest.leases
	all := l.V4.Leases(now)
	if l.V6 != nil {
		all = append(all, l.V6.Leases(now)...)
	}
	return all
}

// HostName is a name with an address that it leads to, as the guest finds it in the zone of guests.
type HostName = dnszone.Host

// HostNames returns the names of the guest, of its hosts, and of guests that it reaches, each with an address that leads back to it. A name leads to the first
// address of each version of IP that is there with it. now is by the clock of Turn. Any goroutine may call it.
func (p *Port) HostNames(now int64) (all []HostName) {
	for _, h := range p.guest.hostNames(now) {
		if h.Name = dnszone.Label(h.Name); h.Name != "" {
			all = append(all, h)
		}
	}
	return all
}

// CachedName is an answer of a resolver that is kept for the guest.
type CachedName = dnscache.Name

// CachedNames returns the answers that are kept for the guest, that used last first, nil if none are to be: with Config.DNSCache it is not nil. now
// is by the clock of Turn. Any goroutine may call it.
func (p *Port) CachedNames(now int64) []CachedName {
	cache := p.guest.names.Cache()
	if cache == nil {
		return nil
	}
	return append([]CachedName{}, cache.List(now)...)
}

// NameCacheStats is what has become of queries with answers that are kept.
type NameCacheStats = dnscache.Stats

// NameCacheStats returns what has become of the guest's queries, nothing if no answers are kept. Any goroutine may call it.
func (p *Port) NameCacheStats() (s NameCacheStats) {
	if cache := p.guest.names.Cache(); cache != nil {
		s = cache.Stats()
	}
	return s
}

// ForgetNames forgets the answers that are kept for the guest, and returns how many there were. Any goroutine may call it.
func (p *Port) ForgetNames() int {
	cache := p.guest.names.Cache()
	if cache == nil {
		return 0
	}
	return cache.Clear()
}

// Resolvers is what is known of those that answer the guest's names.
type Resolvers = dns.State

// Resolvers returns what is known of those that answer the guest's names. now is by the clock of Turn. Any goroutine may call it.
func (p *Port) Resolvers(now int64) Resolvers { return p.guest.dns.State(now) }
