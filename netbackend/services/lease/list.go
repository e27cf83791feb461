package lease

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Lease is an address that is a host's.
type Lease struct {
	Addr  netip.Addr
	MAC   [6]byte
	Name  string        // as the host calls itself, at most 255 bytes of anything; "" if it has not said
	Fixed bool          // the configuration gives it to that host, which may not be there
	Left  time.Duration // until it may be given to others; 0 for one that its host keeps
}

// SetName takes note of how the host with a MAC address calls itself. If there are too many, all others are forgotten.
func (b *Book) SetName(mac [6]byte, name string) {
	if name == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.names == nil || len(b.names) >= maxNames {
		b.names = map[[6]byte]string{}
	}
	b.names[mac] = name[:min(len(name), maxName)]
}

// Leases returns the addresses that hosts have at now, and those that the configuration gives to hosts, in their order.
func (b *Book) Leases(now int64) (all []Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		l := Lease{Addr: e.addr, MAC: e.client.MAC, Name: b.names[e.client.MAC], Left: time.Duration(e.until - now)}
		if e.addr == b.cfg.Primary {
			l.Left = 0
		}
		if e.addr == b.cfg.Primary || l.Left > 0 {
			all = append(all, l)
		}
	}
	for mac, a := range maps.All(b.cfg.Fixed) {
		all = append(all, Lease{Addr: a, MAC: mac, Name: b.names[mac], Fixed: true})
	}
	slices.SortFunc(all, func(x, y Lease) int { return x.Addr.Compare(y.Addr) })
	return all
}
