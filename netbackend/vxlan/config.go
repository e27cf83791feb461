package vxlan

import (
	"errors"
	"fmt"
	"net/netip"
)

const (
	// MaxRemotes is how many remote switches there can be.
	MaxRemotes = 128
	// MaxMappings is how many VLANs can have networks of their own.
	MaxMappings = 256
)

// Config says where frames go to and come from.
type Config struct {
	// Remotes are the remote switches: addresses of one version of IP, with the port to which datagrams go. They may come from any port.
	Remotes []netip.AddrPort
	// Local is the address and port of the socket. Without an address it is every one of the host.
	Local netip.AddrPort
	// VNI is the network of frames that are in no VLAN of Mappings.
	VNI uint32
	// Mappings give VLANs networks of their own, in which their frames have no tag. Without any, frames pass with the tags that they have.
	Mappings []Mapping
}

// Mapping is the network of a VLAN.
type Mapping struct {
	VLAN uint16 // 1 to 4094
	VNI  uint32
}

// Check returns what is wrong.
func (c *Config) Check() error {
	switch {
	case len(c.Remotes) == 0:
		return errors.New("no remote switch")
	case len(c.Remotes) > MaxRemotes:
		return fmt.Errorf("%d remote switches: want %d at most", len(c.Remotes), MaxRemotes)
	case len(c.Mappings) > MaxMappings:
		return fmt.Errorf("%d VLANs with networks of their own: want %d at most", len(c.Mappings), MaxMappings)
	}
	known := map[netip.Addr]bool{}
	for _, r := range c.Remotes {
		a := r.Addr()
		switch {
		case !a.IsValid() || a.IsUnspecified() || a.Is4In6():
			return fmt.Errorf("%s: want the address of a remote switch", r)
		case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return fmt.Errorf("%s: want the address of one host; a group needs rights that nobody gives, so name each remote switch", r)
		case r.Port() == 0:
			return fmt.Errorf("%s: want a port from 1 to 65535", r)
		case a.Is4() != c.Remotes[0].Addr().Is4():
			return fmt.Errorf("%s and %s: want addresses of one version of IP; another uplink can have the others", c.Remotes[0].Addr(), a)
		case known[a]:
			return fmt.Errorf("%s is named twice", a)
		}
		known[a] = true
	}
	if a := c.Local.Addr(); a.IsValid() && a.Is4() != c.Remotes[0].Addr().Is4() {
		return fmt.Errorf("local address %s and remote address %s: want one version of IP", a, c.Remotes[0].Addr())
	}
	return c.checkNetworks()
}

func (c *Config) checkNetworks() error {
	if c.VNI > MaxVNI {
		return fmt.Errorf("VNI %d: want 0 to %d", c.VNI, MaxVNI)
	}
	vlans, networks := map[uint16]bool{}, map[uint32]bool{c.VNI: true}
	for _, m := range c.Mappings {
		switch {
		case m.VLAN < 1 || m.VLAN > 4094:
			return fmt.Errorf("VLAN %d: want 1 to 4094", m.VLAN)
		case m.VNI > MaxVNI:
			return fmt.Errorf("VNI %d: want 0 to %d", m.VNI, MaxVNI)
		case vlans[m.VLAN]:
			return fmt.Errorf("VLAN %d has two networks", m.VLAN)
		case networks[m.VNI]:
			return fmt.Errorf("VNI %d is the network of two VLANs", m.VNI)
		}
		vlans[m.VLAN], networks[m.VNI] = true, true
	}
	return nil
}

// Overhead is how many bytes a frame's payload has less than a packet of the outer network.
func (c *Config) Overhead() int {
	if c.Remotes[0].Addr().Is4() {
		return Overhead4
	}
	return Overhead6
}
