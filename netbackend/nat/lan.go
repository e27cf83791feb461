package nat

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/vringnet/vring/netbackend/services/dnszone"
	"github.com/vringnet/vring/netbackend/services/lease"
)

// LAN is what guests share that reach each other, each of which has an engine of its own: which address is whose, and how guests are called.
// The zero value is one without guests. Any number of goroutines may use it.
type LAN struct {
	v4, v6 lease.Link

	mu     sync.Mutex
	guests []*guest // in the order in which they came
}

// Neighbour is a guest's place among those of a LAN.
type Neighbour struct {
	LAN  *LAN
	Name string // by which others find the guest; "" for none but those that its hosts tell
	VLAN uint16 // guests of another one do not learn the guest's names
	// Isolated guests do not learn each other's names.
	Isolated bool
}

// reaches reports whether guests of two places reach each other.
func (n *Neighbour) reaches(other *Neighbour) bool {
	return n.VLAN == other.VLAN && !(n.Isolated && other.Isolated)
}

func (l *LAN) join(g *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guests = append(l.guests, g)
}

// leave takes a guest from the LAN, with its addresses.
func (l *LAN) leave(g *guest) {
	l.mu.Lock()
	l.guests = slices.DeleteFunc(l.guests, func(other *guest) bool { return other == g })
	l.mu.Unlock()
	l.v4.Remove(g.leases.V4)
	if g.leases.V6 != nil {
		l.v6.Remove(g.leases.V6)
	}
}

// links returns what the books of a guest share with those of others; nil for nothing.
func (c *Config) links() (v4, v6 *lease.Link) {
	if c.Neighbour.LAN == nil {
		return nil, nil
	}
	return &c.Neighbour.LAN.v4, &c.Neighbour.LAN.v6
}

// namesFor returns the names of a guest and of those that it reaches. What the configuration calls a guest goes before what hosts call
// themselves, so that nobody takes a name from another.
func (l *LAN) namesFor(g *guest, now int64) (all []dnszone.Host) {
	l.mu.Lock()
	guests := slices.Clone(l.guests)
	l.mu.Unlock()
	guests = slices.DeleteFunc(guests, func(other *guest) bool { return other != g && !other.neighbour.reaches(&g.neighbour) })
	for _, other := range guests {
		all = append(all, other.ownName(now)...)
	}
	all = append(all, g.toldNames(now)...)
	for _, other := range guests {
		if other != g {
			all = append(all, other.toldNames(now)...)
		}
	}
	return all
}

// ownName is the name that the configuration gives a guest, with the addresses that it has.
func (g *guest) ownName(now int64) (all []dnszone.Host) {
	name := g.neighbour.Name
	if name == "" {
		return nil
	}
	all = append(all, dnszone.Host{Name: name, Addr: g.primary})
	if g.leases.V6 == nil {
		return all
	}
	for _, l := range g.leases.V6.Leases(now) {
		if l.Addr == g.primary6 {
			all = append(all, dnszone.Host{Name: name, Addr: l.Addr})
		}
	}
	for _, a := range g.chosenAddresses() {
		all = append(all, dnszone.Host{Name: name, Addr: a})
	}
	return all
}

// chosenAddresses are those in the network of IPv6 that the guest has chosen by itself, as far as it has used them (RFC 4862).
func (g *guest) chosenAddresses() (all []netip.Addr) {
	for _, used := range g.pairs.Hosts.Addresses() {
		if a := used.Netip(); !used.Is4() && g.prefix6.Contains(a) && a != g.primary6 {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}
