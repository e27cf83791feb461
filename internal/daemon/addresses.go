package daemon

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat"
)

// isSet reports whether addresses of one version of IP do not follow from the network.
func (n *NAT) isSet(is4 bool) bool {
	for _, list := range [][]netip.Addr{n.GuestAddresses, n.Routers, n.Relays} {
		if of(list, is4).IsValid() {
			return true
		}
	}
	return n.NoRelay || n.Shared
}

// of returns the address of one version of IP, the zero Addr if there is none.
func of(list []netip.Addr, is4 bool) netip.Addr {
	i := slices.IndexFunc(list, func(a netip.Addr) bool { return a.Is4() == is4 })
	if i < 0 {
		return netip.Addr{}
	}
	return list[i]
}

// setAddresses gives c the addresses that do not follow from the networks.
func (n *NAT) setAddresses(c *nat.Config) error {
	if n.RouterMAC != nil {
		c.GatewayMAC = [6]byte(n.RouterMAC)
	}
	c.NameServers = n.NameServers
	errs := multierror.Append(nil, oneEach(optionGuestAddress, n.GuestAddresses), oneEach(optionRouter, n.Routers), oneEach(optionDNSRelay, n.Relays),
		n.checkNone())
	if n.RouterMAC != nil && (n.RouterMAC[0]&1 != 0 || [6]byte(n.RouterMAC) == [6]byte{}) {
		errs = multierror.Append(errs, faultf("%s %s: want the address of one station", optionRouterMAC, n.RouterMAC))
	}
	if n.isSet(true) {
		errs = multierror.Append(errs, n.setAddresses4(c))
	}
	if n.isSet(false) && c.Prefix6.IsValid() {
		c.SetAddresses(n.addresses(c.Prefix6, 0x15))
	}
	return errs.ErrorOrNil()
}

// setAddresses4 is setAddresses in IPv4. What is not given is where it usually is, if the network has room.
func (n *NAT) setAddresses4(c *nat.Config) error {
	network := n.Network
	switch {
	case !network.IsValid():
		network = c.Prefix
	case !network.Addr().Is4():
		return faultf("%s %s: want an IPv4 network; %s is that of IPv6", optionNetwork, network, optionNetwork6)
	case network != network.Masked():
		return faultf("%s %s: bits are set behind the first %d; write %s", optionNetwork, network, network.Bits(), network.Masked())
	}
	c.SetAddresses(n.addresses(network, 15))
	if n.RouterMAC == nil {
		b := c.Gateway.As16()
		copy(c.GatewayMAC[2:], b[12:])
	}
	return nil
}

// addresses are those of a network. guest is the last byte of the first guest's address if it is not given.
func (n *NAT) addresses(network netip.Prefix, guest byte) nat.Addresses {
	is4 := network.Addr().Is4()
	usual := func(given netip.Addr, last byte) netip.Addr {
		const smallest = 27 // bits of a network of IPv4 in which there is room for the usual ones
		if given.IsValid() || is4 && network.Bits() > smallest {
			return given
		}
		b := network.Addr().AsSlice()
		b[len(b)-1] += last
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	a := nat.Addresses{Prefix: network, Router: usual(of(n.Routers, is4), 2), Guest: usual(of(n.GuestAddresses, is4), guest)}
	switch relay := of(n.Relays, is4); {
	case n.NoRelay:
	case n.Shared: // others have what is usual elsewhere
		a.DNS = relay
	default:
		a.DNS = usual(relay, 3)
	}
	return a
}

// checkNone returns what is wrong with things that there are not to be.
func (n *NAT) checkNone() error {
	var errs *multierror.Error
	if n.NoRelay && len(n.Relays) > 0 {
		errs = multierror.Append(errs, faultf("%s %s and %s %s exclude each other", optionDNSRelay, NoRelay, optionDNSRelay, n.Relays[0]))
	}
	if n.NoNameServers && len(n.NameServers) > 0 {
		errs = multierror.Append(errs, faultf("%s %s and %s %s exclude each other", optionNameServer, NoNameServers, optionNameServer, n.NameServers[0]))
	}
	return errs.ErrorOrNil()
}

// oneEach returns what is wrong if there are two addresses of one version of IP.
func oneEach(option Option, list []netip.Addr) error {
	for i, a := range list {
		if slices.ContainsFunc(list[:i], func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			return faultf("%s %s: want one address of IPv4, and one of IPv6", option, a)
		}
	}
	return nil
}

// Words for none of what an option is about.
const (
	NoRelay       = "off"
	NoNameServers = "none"
)

// AddRelay adds an address at which names are answered for, or NoRelay.
func (n *NAT) AddRelay(text string) error {
	if text == NoRelay {
		n.NoRelay = true
		return nil
	}
	return addServer(&n.Relays, optionDNSRelay, text)
}

// AddNameServer adds a name server that guests are told of, or NoNameServers.
func (n *NAT) AddNameServer(text string) error {
	if text == NoNameServers {
		n.NoNameServers = true
		return nil
	}
	return addServer(&n.NameServers, optionNameServer, text)
}

func addServer(to *[]netip.Addr, option Option, text string) error {
	a, err := ParseServer(option, text)
	if err == nil {
		*to = append(*to, a)
	}
	return err
}
