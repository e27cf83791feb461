package dhcp4

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
)

// Limits of the configuration, so that every answer fits the options that matter into the smallest message that a
// client must take (RFC 2131 section 2).
const (
	maxNameServers = 16
	maxHostname    = 63  // one DNS label, RFC 1035 section 2.3.4
	maxDomain      = 253 // a whole name as text
	minMTU         = 68  // RFC 2132 section 5.1
)

// Config is what the guest is told. All addresses are IPv4.
type Config struct {
	Guest  netip.Addr   // the guest's address
	Server netip.Addr   // the server's own address and identifier
	Prefix netip.Prefix // the guest's network; gives the subnet mask and the broadcast address
	Router netip.Addr   // the default gateway; the zero Addr for none
	DNS    []netip.Addr // name servers, best first
	MTU    int          // bytes of IP; 0 says nothing about it
	// Hostname is one label, and Domain a domain name without a dot at the end. Empty is not sent.
	Hostname, Domain string
	// LeaseTime is how long the guest may use the address without asking again, in whole seconds. 0 means for ever.
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
	fail(!c.Prefix.Contains(c.Server), "server address %v is not in network %v", c.Server, c.Prefix)
	fail(c.Guest == c.Server, "guest and server have the same address %v", c.Guest)
	fail(c.Router.IsValid() && !c.Prefix.Contains(c.Router), "router %v is not in network %v", c.Router, c.Prefix)
	for _, a := range c.DNS {
		fail(!a.Is4(), "name server %v is not an IPv4 address", a)
	}
	fail(len(c.DNS) > maxNameServers, "%d name servers, at most %d can be announced", len(c.DNS), maxNameServers)
	fail(c.MTU != 0 && (c.MTU < minMTU || c.MTU > math.MaxUint16), "MTU %d is not in %d...%d", c.MTU, minMTU, math.MaxUint16)
	fail(c.LeaseTime < 0 || c.LeaseTime%time.Second != 0, "lease time %v is not a whole number of seconds", c.LeaseTime)
	return multierror.Append(all, CheckNames(c.Hostname, c.Domain)).ErrorOrNil()
}

// CheckNames returns what is wrong with a host name and a domain that are to be told to a guest. Empty ones are right.
func CheckNames(hostname, domain string) error {
	const form = "letters, digits, hyphens and underscores"
	var all *multierror.Error
	switch name, rest, dotted := strings.Cut(hostname, "."); {
	case dotted:
		all = multierror.Append(all, fmt.Errorf("host name %q has a dot; write --hostname %s --domain %s", hostname, name, rest))
	case !isName(hostname, maxHostname):
		all = multierror.Append(all, fmt.Errorf("host name %q: want up to %d %s, as in web-1", hostname, maxHostname, form))
	}
	if !isName(domain, maxDomain) {
		all = multierror.Append(all, fmt.Errorf("domain %q: want names of %s with dots between them, as in example.org", domain, form))
	}
	return all.ErrorOrNil()
}

// isName tells whether name is empty or a host name of up to most bytes (RFC 1123 section 2.1; underscores are common and
// harmless): clients have passed names from the network on to shells.
func isName(name string, most int) bool {
	if name == "" {
		return true
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxHostname || label[0] == '-' || strings.Trim(label, nameBytes) != "" {
			return false
		}
	}
	return len(name) <= most
}

const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
