package nat

import (
	"github.com/vringnet/vring/netbackend/services/dnszone"
)

// ownZone is where the host and the guest's hosts have names without a configuration. No resolver is asked about it.
const ownZone = "vring.internal"

// newZones returns the zones of the configuration. The error tells what is wrong with Names.
func (c *Config) newZones() (*dnszone.Zones, error) { return dnszone.New(c.Names, c.ownNames()...) }

// ownNames are the names that are there without a configuration: that of the host, if a service of it is open to the guest. Names of guests' hosts
// come from DHCP, see guest.hostNames.
func (c *Config) ownNames() []dnszone.Entry {
	own := []dnszone.Entry{{Zone: ownZone, Kind: dnszone.Alone}}
	if len(c.AllowHost) == 0 {
		return own
	}
	own = append(own, dnszone.Entry{Zone: ownZone, Name: "host", Addr: c.Gateway})
	if c.Gateway6.IsValid() {
		own = append(own, dnszone.Entry{Zone: ownZone, Name: "host", Addr: c.Gateway6})
	}
	return own
}

// useZones lets names be answered by zones of the configuration, and for the guest's own hosts.
func (g *guest) useZones(z *dnszone.Zones) {
	z = z.WithHosts(ownZone, g.hostNames)
	if g.neighbour.LAN != nil {
		z = z.WithoutZone()
	}
	g.names.UseZones(z)
}

// hostNames are the names of this guest's hosts, and of guests that it reaches.
func (g *guest) hostNames(now int64) []dnszone.Host {
	if lan := g.neighbour.LAN; lan != nil {
		return lan.namesFor(g, now)
	}
	return g.toldNames(now)
}

// toldNames are the hosts of this guest that have told a name by DHCP.
func (g *guest) toldNames(now int64) (all []dnszone.Host) {
	leases := g.leases.V4.Leases(now)
	if g.leases.V6 != nil {
		leases = append(leases, g.leases.V6.Leases(now)...)
	}
	for i := range leases {
		if l := &leases[i]; l.Name != "" {
			all = append(all, dnszone.Host{Name: l.Name, Addr: l.Addr})
		}
	}
	return all
}
