package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
)

// ParseSOCKS reads where clients of SOCKS connect: MetricsForm. A port alone is one of the loopback.
func ParseSOCKS(text string) (netip.AddrPort, error) { return parsePort(optionSOCKS, text) }

// checkSOCKS returns what is wrong with the address of SOCKS.
func (c *Config) checkSOCKS() error {
	if c.SOCKS.IsValid() && !c.HasNAT() {
		return faultf("%s leads into guests behind NAT, and there are none; leave it out", optionSOCKS)
	}
	errs := multierror.Append(nil, checkPort(optionSOCKS, c.SOCKS))
	for _, n := range c.allNAT() {
		errs = multierror.Append(errs, c.checkOpen(n))
	}
	return errs.ErrorOrNil()
}

// checkOpen returns why guests may not have the services of n, or be led where they are: by the port of SOCKS one guest could reach another,
// and the page controls this process.
func (c *Config) checkOpen(n *NAT) error {
	if err := c.checkWays(n); err != nil {
		return err
	}
	for _, s := range n.AllowHost {
		if s.Proto != unix.IPPROTO_TCP {
			continue
		}
		if fault := c.checkOpenPort(optionAllowHost, fmt.Sprintf("tcp:%d", s.Port), s.Port); fault != nil {
			return fault
		}
	}
	for i := range n.Redirects {
		r := &n.Redirects[i]
		if r.Proto == unix.IPPROTO_UDP {
			continue
		}
		if fault := c.checkOpenPort(optionRedirect, r.String(), r.To.Port()); fault != nil {
			return fault
		}
	}
	return nil
}

// checkOpenPort returns why an option may not lead guests to a port of TCP; 0 is all of them.
func (c *Config) checkOpenPort(option Option, value string, port uint16) error {
	leads := func(to netip.AddrPort) bool { return to.IsValid() && (port == to.Port() || port == 0) }
	switch {
	case leads(c.UI):
		return faultf("%s %s would lead guests to the page of %s %s, which controls them; use another port for it", option, value, optionUI, c.UI)
	case leads(c.SOCKS):
		return faultf("%s %s would lead from each guest into all others by %s %s; use another port for it", option, value, optionSOCKS, c.SOCKS)
	}
	return nil
}

// openSOCKS listens at the address of SOCKS, if there is one. Nobody is answered yet.
func (d *Daemon) openSOCKS() (err error) {
	d.socks, err = listenAt(optionSOCKS, d.config.SOCKS)
	return err
}

// SOCKS returns the listener at the address of SOCKS, nil if there is none. The daemon closes it when it ends, and whoever accepts
// closes connections.
func (d *Daemon) SOCKS() net.Listener { return d.socks }

// GuestNamed returns the guest behind NAT of a name, in any case of its letters. Any goroutine may call it between Open and the end of Serve.
// The error is a NoGuestError or a NoFlowsError.
func (d *Daemon) GuestNamed(name string) (string, error) {
	for _, s := range d.all() {
		if strings.EqualFold(s.name, name) {
			name = s.name
		}
	}
	_, err := d.withFlows(name)
	return name, err
}

// GuestAt returns the guest behind NAT who has an address, or is the only one who can have it, or has a host behind its card that got it
// by DHCP. It is called as GuestNamed. The error is a ConnectError.
func (d *Daemon) GuestAt(a netip.Addr) (string, error) {
	var own, able []*served
	for _, s := range d.all() {
		switch c := s.network.NAT; {
		case c == nil:
		case a == c.Guest || a == c.Guest6:
			own = append(own, s)
		case c.CheckCall(netip.AddrPortFrom(a, 1)) == nil:
			able = append(able, s)
		}
	}
	if len(own) == 1 {
		return own[0].name, nil
	}
	if len(own) > 1 {
		return "", &ConnectError{BadDestination, fmt.Sprintf("%d guests have the address %s, each in a network of its own; name one of them", len(own), a)}
	}
	if len(able) == 0 {
		return "", &ConnectError{BadDestination, fmt.Sprintf("%s is no guest's address", a)}
	}
	if len(able) == 1 {
		return able[0].name, nil
	}
	for _, s := range able {
		leases, err := askEngine(s, (*nat.Port).Leases)
		if err == nil && slices.ContainsFunc(leases, func(l nat.Lease) bool { return l.Addr == a && !l.Fixed }) {
			return s.name, nil
		}
	}
	return "", &ConnectError{AddressUnused, fmt.Sprintf("no host behind the card of any guest has got %s by DHCP, and which guest it belongs to is not known", a)}
}
