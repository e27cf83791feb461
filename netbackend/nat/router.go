package nat

import (
	"net/netip"
	"slices"
)

// Router is what the guest meets of the engine on its link. Who connects the guest to others on the same link keeps them from it.
type Router struct {
	MAC   [6]byte
	Addrs []netip.Addr // at which the engine answers by ARP and neighbour discovery
	// What the engine does unless Config.Without says otherwise.
	DHCP, DHCPv6, Advertisements bool
	Groups                       bool // it leads questions to groups (mDNS and SSDP) to networks of the host
}

// Router returns what the guest meets of the engine, by the policy that the engine follows; see Port.Follows. It is for the worker's thread, or
// for anybody before Start.
func (p *Port) Router() Router {
	cfg := p.cfg
	r := Router{
		MAC: cfg.GatewayMAC, Addrs: appendValid([]netip.Addr{cfg.Gateway}, cfg.DNS), DHCP: !cfg.lacks(DHCP), Groups: len(cfg.Multicast) > 0,
	}
	if cfg.Prefix6.IsValid() {
		r.Addrs = appendValid(append(r.Addrs, cfg.Gateway6, cfg.linkLocal6()), cfg.DNS6)
		r.DHCPv6 = !cfg.lacks(DHCPv6)
		r.Advertisements = !cfg.lacks(NDP) && !cfg.lacks(RouterAdvertisements)
	}
	r.Addrs = append(r.Addrs, p.adopted.rules.Aliases()...)
	slices.SortFunc(r.Addrs, netip.Addr.Compare)
	r.Addrs = slices.Compact(r.Addrs)
	return r
}

// Follows returns the policy that the engine follows. It is for the worker's thread, or for anybody before Start.
func (p *Port) Follows() *Policy { return p.adopted }

// TakesFrames reports whether the next turn takes all of the guest's frames, if the guest has one queue pair, and not none. It is for the
// worker's thread.
func (p *Port) TakesFrames() bool { return !p.presence.IsDeparting() }
