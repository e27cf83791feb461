package hostconf

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/hashicorp/go-multierror"
)

// Lease is an address that a certain host gets.
type Lease struct {
	MAC  [6]byte
	Addr netip.Addr // of either version of IP
}

// LeaseForm is what ParseLease reads.
const LeaseForm = "MAC=ADDRESS"

// ParseLease reads LeaseForm.
func ParseLease(text string) (Lease, error) {
	mac, address, found := strings.Cut(text, "=")
	if !found {
		mac, address, found = strings.Cut(text, ",") // as dnsmasq has it
	}
	hw, badMAC := net.ParseMAC(mac)
	a, badAddr := netip.ParseAddr(strings.Trim(address, "[]"))
	switch {
	case !found || badMAC != nil || badAddr != nil || len(hw) != 6 || a.Zone() != "":
		return Lease{}, fmt.Errorf("--lease %q: want %s, as in 52:54:00:12:34:56=10.0.2.50", text, LeaseForm)
	case hw[0]&1 != 0 || [6]byte(hw) == [6]byte{}:
		return Lease{}, fmt.Errorf("--lease %q: %s is not the address of one Ethernet interface", text, hw)
	case !strings.Contains(text, "="):
		return Lease{}, fmt.Errorf("--lease %q: want %s; write --lease %s=%s", text, LeaseForm, hw, a)
	}
	return Lease{MAC: [6]byte(hw), Addr: a.Unmap()}, nil
}

func (l Lease) String() string { return net.HardwareAddr(l.MAC[:]).String() + "=" + l.Addr.String() }

// checkLeases returns what is wrong with the leases of c.
func (c *Config) checkLeases(prefix, prefix6 netip.Prefix) error {
	type host struct {
		mac [6]byte
		is4 bool
	}
	var errs *multierror.Error
	hosts, addrs := map[host]bool{}, map[netip.Addr]bool{}
	for _, l := range c.Leases {
		network, h := prefix, host{l.MAC, l.Addr.Is4()}
		if !h.is4 {
			network = prefix6
		}
		switch {
		case !h.is4 && !network.IsValid():
			errs = multierror.Append(errs, fmt.Errorf("--lease %s: the guest has no IPv6", l))
		case !network.Contains(l.Addr) || l.Addr == network.Addr() || h.is4 && !network.Contains(l.Addr.Next()):
			errs = multierror.Append(errs, fmt.Errorf("--lease %s: want an address of a host in the guest's network %s", l, network))
		case hosts[h]:
			errs = multierror.Append(errs, fmt.Errorf("--lease %s: the host has an address already", l))
		case addrs[l.Addr]:
			errs = multierror.Append(errs, fmt.Errorf("--lease %s: another host has the address already", l))
		}
		hosts[h], addrs[l.Addr] = true, true
	}
	return errs.ErrorOrNil()
}

// Fixed returns the addresses of one version of IP by the hosts that get them.
func Fixed(leases []Lease, is4 bool) map[[6]byte]netip.Addr {
	fixed := map[[6]byte]netip.Addr{}
	for _, l := range leases {
		if l.Addr.Is4() == is4 {
			fixed[l.MAC] = l.Addr
		}
	}
	return fixed
}
