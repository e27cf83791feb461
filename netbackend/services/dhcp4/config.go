package dhcp4

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/netbackend/services/lease"
)

// Limits of the configuration, so that every answer fits the options that matter into the smallest message that a
// client must take (RFC 2131 section 2).
const (
	maxNameServers = 16
	minMTU         = 68 // RFC 2132 section 5.1
)

// Config is what the guest's hosts are told. All addresses are IPv4.
type Config struct {
	Guest  netip.Addr   // the guest's address
	Server netip.Addr   // the server's own address and identifier
	Prefix netip.Prefix // the guest's network; gives the subnet mask and the broadcast address
	Router netip.Addr   // the default gateway; the zero Addr for none. Beyond Prefix, the guest is told that it is on its link
	DNS    []netip.Addr // name servers, best first
	MTU    int          // bytes of IP; 0 says nothing about it
	// Hostname is one label, for the host at Guest, and Domain a domain name without a dot at the end. Empty is not sent.
	Hostname, Domain string
	// Search returns the domains in which names are looked up; nil says nothing about it.
	Search func() []string
	// More is what else hosts are told. Its leases are the Book's.
	More hostconf.Config
	// Book has the address of each host; nil gives Guest to all of them.
	Book *lease.Book
	// LeaseTime is how long a host may use an address that is not of the pool without asking again, in whole seconds. 0 means
	// for ever.
	LeaseTime time.Duration
}

// check returns all that is wrong with c.
func (c *Config) check() error {
	var all *multierror.Error
	fail := func(bad bool, format string, args ...any) {
		if bad {
			all = multierror.Append(all, fmt.Errorf(format, args...))
		}
	}
	fail(!c.Prefix.Addr().Is4(), "network %v is not an IPv4 prefix", c.Prefix)
	fail(!c.Prefix.Contains(c.Guest), "guest address %v is not in network %v", c.Guest, c.Prefix)
	fail(c.Guest == c.Server, "guest and server have the same address %v", c.Guest)
	fail(!c.Server.Is4(), "server address %v is not an IPv4 address", c.Server)
	fail(c.Router.IsValid() && !c.Router.Is4(), "router %v is not an IPv4 address", c.Router)
	for _, a := range c.DNS {
		fail(!a.Is4(), "name server %v is not an IPv4 address", a)
	}
	fail(len(c.DNS) > maxNameServers, "%d name servers, at most %d can be announced", len(c.DNS), maxNameServers)
	fail(c.MTU != 0 && (c.MTU < minMTU || c.MTU > math.MaxUint16), "MTU %d is not in %d...%d", c.MTU, minMTU, math.MaxUint16)
	fail(c.LeaseTime < 0 || c.LeaseTime%time.Second != 0, "lease time %v is not a whole number of seconds", c.LeaseTime)
	return multierror.Append(all, hostconf.CheckNames(c.Hostname, c.Domain)).ErrorOrNil()
}
