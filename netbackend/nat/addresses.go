package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
)

// Addresses are those of a network in one version of IP, where they do not follow from the network.
type Addresses struct {
	Prefix netip.Prefix
	Router netip.Addr // of IPv6 it may be a link-local one. It need not be in Prefix
	DNS    netip.Addr // where the engine answers for names, which may be Router; the zero Addr is nowhere
	Guest  netip.Addr
}

// SetAddresses moves the network of one version of IP, with all of its addresses.
func (c *Config) SetAddresses(a Addresses) {
	if a.Prefix.Addr().Is4() {
		c.Prefix, c.Gateway, c.DNS, c.Guest = a.Prefix.Masked(), a.Router, a.DNS, a.Guest
		return
	}
	c.Prefix6, c.Gateway6, c.DNS6, c.Guest6, c.LinkLocal6 = a.Prefix.Masked(), a.Router, a.DNS, a.Guest, netip.Addr{}
	if a.Router.IsLinkLocalUnicast() {
		c.LinkLocal6 = a.Router
	}
}

// linkLocal6 is the gateway's address on the guest's link in IPv6.
func (c *Config) linkLocal6() netip.Addr {
	if c.LinkLocal6.IsValid() {
		return c.LinkLocal6
	}
	return guestnet.LinkLocal(c.GatewayMAC)
}

// nameServers are those of one version of IP that the guest is told of.
func (c *Config) nameServers(is4 bool) (all []netip.Addr) {
	if c.NoNameServers {
		return nil
	}
	for _, a := range c.NameServers {
		if a.Is4() == is4 {
			all = append(all, a)
		}
	}
	switch {
	case len(c.NameServers) > 0:
		return all
	case is4:
		return appendValid(nil, c.DNS)
	}
	return appendValid(nil, c.DNS6)
}

// isOwn reports whether nobody but the guest and the engine can have an address.
func (c *Config) isOwn(a netip.Addr) bool {
	if c.Shared {
		return a.IsValid() && slices.Contains([]netip.Addr{c.Guest, c.Gateway, c.DNS, c.Guest6, c.Gateway6, c.DNS6}, a)
	}
	return c.Prefix.Contains(a) || c.Prefix6.Contains(a)
}

// checkAddresses returns what is wrong with the addresses of the networks.
func (c *Config) checkAddresses() error {
	errs := multierror.Append(nil, checkNetwork(Addresses{c.Prefix, c.Gateway, c.DNS, c.Guest})...)
	if c.Prefix6.IsValid() {
		errs = multierror.Append(errs, checkNetwork(Addresses{c.Prefix6, c.Gateway6, c.DNS6, c.Guest6})...)
	}
	for _, a := range c.NameServers {
		if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			errs = multierror.Append(errs, fmt.Errorf("--name-server %s: want the address of one host that the guest can reach", a))
		}
	}
	return errs.ErrorOrNil()
}

// checkNetwork returns what is wrong with the addresses of one network.
func checkNetwork(a Addresses) (faults []error) {
	is4 := a.Prefix.Addr().Is4()
	for _, one := range []struct {
		option string
		addr   netip.Addr
	}{{"--router", a.Router}, {"--dns-relay", a.DNS}, {"--guest-address", a.Guest}} {
		switch {
		case !one.addr.IsValid() && one.option == "--dns-relay":
		case !one.addr.IsValid():
			faults = append(faults, fmt.Errorf("network %s has no room for %s; want an address of it, as in %s %s", a.Prefix, one.option, one.option, a.Prefix.Addr()))
		case one.addr.Is4() != is4 || one.addr.IsUnspecified() || one.addr.IsMulticast() || one.addr.IsLoopback() || one.addr == broadcast:
			faults = append(faults, fmt.Errorf("%s %s: want the address of one host", one.option, one.addr))
		}
	}
	if !a.Prefix.Contains(a.Guest) {
		faults = append(faults, fmt.Errorf("address %s is not in the network %s", a.Guest, a.Prefix))
	}
	if a.Router == a.Guest || a.DNS == a.Guest {
		faults = append(faults, fmt.Errorf("the guest needs an address of its own, other than %s", a.Guest))
	}
	return faults
}

// Protocol is something that guests have, unless Config.Without says otherwise.
type Protocol uint8

// The protocols.
const (
	TCP  Protocol = iota
	UDP           // but for DHCP
	ICMP          // pings
	DHCP
	DHCPv6
	NDP
	RouterAdvertisements
)

var protocolNames = [...]string{"tcp", "udp", "icmp", "dhcp", "dhcpv6", "ndp", "ra"}

// ProtocolNames returns how protocols are written, in their order.
func ProtocolNames() []string { return protocolNames[:] }

// String returns p as ParseProtocol reads it.
func (p Protocol) String() string { return protocolNames[p] }

// ParseProtocol reads one of ProtocolNames.
func ParseProtocol(text string) (Protocol, error) {
	if i := slices.Index(protocolNames[:], text); i >= 0 {
		return Protocol(i), nil
	}
	return 0, fmt.Errorf("--without %q: want tcp, udp, icmp, dhcp, dhcpv6, ndp or ra", text)
}

// lacks reports whether the guest does not have a protocol.
func (c *Config) lacks(p Protocol) bool { return slices.Contains(c.Without, p) }
