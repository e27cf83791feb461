package hostconf

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/go-multierror"
)

// Limits of each list, so that answers are bounded. What does not fit one answer is left out there.
const (
	maxSearch  = 32
	maxNTP     = 8
	maxRoutes  = 32
	maxLeases  = 256
	maxOptions = 64
)

// Config is what hosts are told. The zero Config says nothing.
type Config struct {
	NTP         []netip.Addr // time servers, of either version of IP
	Routes      []Route
	BootServers []netip.Addr // where boot files are fetched by TFTP; one for each version of IP, the first counts
	BootFiles   []BootFile   // the first one for the client counts
	Options     []Option     // of DHCP
	Options6    []Option     // of DHCPv6
	Leases      []Lease
}

// Check returns all that is wrong with c on a guest's networks, of which prefix6 may be the zero Prefix for none.
func (c *Config) Check(prefix, prefix6 netip.Prefix) error {
	var errs *multierror.Error
	fail := func(bad bool, format string, args ...any) {
		if bad {
			errs = multierror.Append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, list := range []struct {
		flag    string
		n, most int
	}{
		{"--ntp", len(c.NTP), maxNTP}, {"--route", len(c.Routes), maxRoutes}, {"--lease", len(c.Leases), maxLeases},
		{"--dhcp-option", len(c.Options), maxOptions}, {"--dhcp6-option", len(c.Options6), maxOptions},
		{"--boot-file", len(c.BootFiles), maxOptions},
	} {
		fail(list.n > list.most, "%s: given %d times; want %d at most", list.flag, list.n, list.most)
	}
	for _, a := range c.NTP {
		fail(!isHost(a), "--ntp %s: want the address of one host", a)
	}
	for _, r := range c.Routes {
		fail(!prefix.Contains(r.Router), "--route %s: the router %s is not in the guest's network %s", r, r.Router, prefix)
	}
	errs = multierror.Append(errs, c.checkBoot(), checkTwice("--dhcp-option", c.Options), checkTwice("--dhcp6-option", c.Options6))
	return multierror.Append(errs, c.checkLeases(prefix, prefix6)).ErrorOrNil()
}

// checkTwice returns what is wrong if an option is there twice.
func checkTwice(flag string, options []Option) error {
	seen := map[uint16]bool{}
	for _, o := range options {
		if seen[o.Code] {
			return fmt.Errorf("%s %d: given twice; write all of its addresses into one, with commas between them", flag, o.Code)
		}
		seen[o.Code] = true
	}
	return nil
}

// isHost reports whether a can be the address of a server.
func isHost(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a.Zone() == "" &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// NTPOf returns the time servers of one version of IP.
func (c *Config) NTPOf(is4 bool) []netip.Addr { return ofVersion(c.NTP, is4) }

func ofVersion(addrs []netip.Addr, is4 bool) (of []netip.Addr) {
	for _, a := range addrs {
		if a.Is4() == is4 {
			of = append(of, a)
		}
	}
	return of
}
