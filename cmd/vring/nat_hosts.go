package main

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// hostTexts are the flags of "vring nat" that say what hosts of the guest are told, as text.
type hostTexts struct {
	bootRoot                                                               string
	search, leases, routes, ntp, bootServers, bootFiles, options, options6 []string
}

func (h *hostTexts) add(f *pflag.FlagSet) {
	f.StringArrayVar(&h.search, "search", nil, "domain in which the guest looks names up, or none (repeatable; default: --domain, else the host's)")
	f.StringArrayVar(&h.leases, "lease", nil, "address that DHCP gives to a certain host: "+hostconf.LeaseForm+" (repeatable)")
	f.StringArrayVar(&h.routes, "route", nil, "IPv4 route that DHCP announces: "+hostconf.RouteForm+" (repeatable)")
	f.StringArrayVar(&h.ntp, "ntp", nil, "time server that DHCP announces (repeatable)")
	f.StringArrayVar(&h.bootServers, "boot-server", nil, "TFTP server of --boot-file, one of IPv4 and one of IPv6")
	f.StringArrayVar(&h.bootFiles, "boot-file", nil, "file or URL that the guest boots from the network: "+hostconf.BootFileForm+"; see above (repeatable)")
	f.StringVar(&h.bootRoot, "tftp", "", "directory whose files the router gives out by TFTP, read only; --boot-file names one of them then")
	f.StringArrayVar(&h.options, "dhcp-option", nil, "option of DHCP by its number: "+hostconf.OptionForm+"; see above (repeatable)")
	f.StringArrayVar(&h.options6, "dhcp6-option", nil, "the same for DHCPv6 (repeatable)")
}

// parse adds to c what the flags say. The error holds all that is wrong.
func (h *hostTexts) parse(c *daemon.NAT) error {
	var errs [7]error
	c.Leases, errs[0] = parseEach(h.leases, hostconf.ParseLease)
	c.Routes, errs[1] = parseEach(h.routes, hostconf.ParseRoute)
	c.NTP, errs[2] = parseEach(h.ntp, serverOf("ntp"))
	c.BootServers, errs[3] = parseEach(h.bootServers, serverOf("boot-server"))
	c.BootFiles, errs[4] = parseEach(h.bootFiles, hostconf.ParseBootFile)
	c.Options, errs[5] = parseEach(h.options, hostconf.ParseOption)
	c.Options6, errs[6] = parseEach(h.options6, hostconf.ParseOption6)
	c.BootRoot = h.bootRoot
	if errs[3] != nil || errs[4] != nil {
		c.BootServers, c.BootFiles = nil, nil // one needs the other, which would be said too
	}
	h.setSearch(c)
	return multierror.Append(nil, errs[:]...).ErrorOrNil()
}

// setSearch adds to c the domains in which names are looked up.
func (h *hostTexts) setSearch(c *daemon.NAT) {
	for _, domain := range h.search {
		if domain != "" { // see emptyValues
			c.AddSearch(domain)
		}
	}
}

// parseEach parses texts that are not empty; see emptyValues for those that are.
func parseEach[T any](texts []string, parse func(string) (T, error)) (values []T, err error) {
	var errs *multierror.Error
	for _, text := range texts {
		if text == "" {
			continue
		}
		value, err := parse(text)
		if err != nil {
			errs = multierror.Append(errs, err)
			continue
		}
		values = append(values, value)
	}
	return values, errs.ErrorOrNil()
}

// serverOf returns what reads the address of a server of an option.
func serverOf(option daemon.Option) func(string) (netip.Addr, error) {
	return func(text string) (netip.Addr, error) { return daemon.ParseServer(option, text) }
}

// logHosts logs what hosts are told, as the options that say so.
func logHosts(log *slog.Logger, c *nat.Config) {
	for _, domain := range c.Search {
		logTold(log, "--search", domain)
	}
	logEachTold(log, "--lease", c.Hosts.Leases)
	logEachTold(log, "--route", c.Hosts.Routes)
	logEachTold(log, "--ntp", c.Hosts.NTP)
	logEachTold(log, "--boot-file", c.Hosts.BootFiles)
	logEachTold(log, "--boot-server", c.Hosts.BootServers)
	logEachTold(log, "--dhcp-option", c.Hosts.Options)
	logEachTold(log, "--dhcp6-option", c.Hosts.Options6)
}

func logEachTold[T fmt.Stringer](log *slog.Logger, flag string, values []T) {
	for _, v := range values {
		logTold(log, flag, v.String())
	}
}

func logTold(log *slog.Logger, flag, value string) {
	log.Info("told to hosts", "option", asOption(flag, value))
}
