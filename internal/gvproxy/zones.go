package gvproxy

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/vringnet/vring/netbackend/services/dnszone"
)

// zone is a DNS zone as the API has it.
type zone struct {
	Name      string
	Records   []record
	DefaultIP net.IP
}

// record is an address of the names that are Name, or that Regexp matches.
type record struct {
	Name   string
	IP     net.IP
	Regexp *regexp.Regexp
}

// usualZones are those that gvproxy has.
func usualZones() (all []zone) {
	for _, name := range []string{"containers.internal.", "docker.internal."} {
		all = append(all, zone{Name: name, Records: []record{
			{Name: "gateway", IP: net.ParseIP(gateway)}, {Name: "host", IP: net.ParseIP(host)},
		}})
	}
	return all
}

// added returns zones with one more. In one that there is, the new records come first.
func added(zones []zone, z zone) []zone {
	zones = slices.Clone(zones)
	for i := range zones {
		if zones[i].Name == z.Name {
			z.Records = append(slices.Clone(z.Records), zones[i].Records...)
			zones[i] = z
			return zones
		}
	}
	return append(zones, z)
}

// names are the names of a zone as vring has them. Those of a zone whose name has no dot at its end are found by nobody, as with gvproxy.
func (z *zone) names() (all []string) {
	name, isFull := strings.CutSuffix(z.Name, ".")
	if !isFull {
		return nil
	}
	for _, r := range z.Records {
		addr, ok := addrOf(r.IP)
		if !ok {
			continue
		}
		if r.Name != "" {
			all = append(all, dnszone.Entry{Zone: name, Name: r.Name, Addr: addr}.String())
		}
		if r.Regexp != nil {
			all = append(all, dnszone.Entry{Zone: name, Kind: dnszone.Pattern, Name: r.Regexp.String(), Addr: addr}.String())
		}
	}
	if addr, ok := addrOf(z.DefaultIP); ok {
		all = append(all, dnszone.Entry{Zone: name, Kind: dnszone.Rest, Addr: addr}.String())
	}
	return append(all, dnszone.Entry{Zone: name, Kind: dnszone.Alone}.String())
}

func addrOf(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}
