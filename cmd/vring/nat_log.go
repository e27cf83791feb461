package main

import (
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// describeNAT logs what the guests' networks are. Lines about forwards, services, rules and resolvers have the option that
// makes the same again, with all that is by default.
func describeNAT(log *slog.Logger, network *daemon.NAT, guests []daemon.Network) {
	for _, g := range guests {
		logNetwork(log, g.NAT)
	}
	c := guests[0].NAT
	logHosts(log, c)
	logPolicy(log, c)
	logUseless(log, network, len(guests))
	if network.Expose {
		log.Info("forwards that are added later may be reached by other machines", "option", "--expose")
	}
	if err := hostcaps.CheckPing(); err != nil && !c.Restrict {
		log.Info("guests can ping their router only, since the host forbids more; vring doctor tells how to permit it")
	}
}

func logNetwork(log *slog.Logger, c *nat.Config) {
	log.Info("network", "prefix", c.Prefix, "guest", c.Guest, "router", c.Gateway, "dns", c.DNS, "mtu", c.MTU, "queues", c.Queues)
	if c.Prefix6.IsValid() {
		log.Info("network of IPv6", "prefix", c.Prefix6, "guest", c.Guest6, "router", c.Gateway6, "dns", c.DNS6)
	}
	for _, f := range c.Forwards {
		if !f.Guest.Addr().IsValid() {
			f.Guest = netip.AddrPortFrom(c.Guest, f.Guest.Port())
		}
		log.Info("forward", "option", asOption("-p", f.String()))
	}
}

// logPolicy logs what the guests may reach; it is the same for all.
func logPolicy(log *slog.Logger, c *nat.Config) {
	for _, text := range spec.HostServiceTexts(c.AllowHost) {
		log.Info("host service", "option", asOption("--allow-host", text))
	}
	for _, n := range c.Names {
		log.Info("DNS name", "option", asOption("--dns-name", n.String()))
	}
	for _, r := range c.Redirects {
		log.Info("redirect", "option", asOption("--redirect", r.String()))
	}
	logWay(log, c.Way)
	for i := range c.Rules {
		log.Info("rule", "option", asOption(c.Rules[i].Option(), c.Rules[i].String()))
	}
	for _, g := range c.NameGroups {
		log.Info("group of names", "name", "@"+g.Name, "names", len(g.Names))
	}
	for _, r := range c.Resolvers {
		log.Info("resolver", "option", asOption("--dns", r.String()))
	}
	for _, r := range c.Split {
		log.Info("resolvers of a domain", "option", asOption("--dns-for", r.String()))
	}
	switch {
	case len(c.Resolvers) > 0:
	case !c.AsksHostsResolvers():
		log.Info("no resolvers", "reason", "with --restrict only those of --dns are asked")
	default:
		log.Info("resolvers", "file", c.ResolvConf)
	}
	if c.Restrict {
		log.Info("all else is closed", "option", "--restrict")
	}
	logFiltering(log, c.UDPFiltering)
	for _, name := range c.Multicast {
		log.Info("guests find services of a network by mDNS and SSDP", "option", asOption("--multicast", name))
	}
}

// logFiltering logs who may send to the guest's UDP ports besides those that the guest has sent to.
func logFiltering(log *slog.Logger, f nat.Filtering) {
	option := asOption("--udp-filtering", f.String())
	switch f {
	case nat.AddressDependent:
		log.Info("hosts that a UDP port of the guest has sent to may answer it from any port", "option", option)
	case nat.EndpointIndependent:
		log.Info("anybody may send to a UDP port of the guest that has sent something lately", "option", option)
	}
}

// asOption is an option as a shell reads it.
func asOption(flag, value string) string {
	if strings.ContainsAny(value, " \t\n'\"\\$`*?[]{}()<>|&;#~!") {
		value = "'" + strings.ReplaceAll(value, "'", `'\\''`) + "'"
	}
	return flag + " " + value
}

// logUseless warns of options that are right and do nothing, or not what somebody would expect.
func logUseless(log *slog.Logger, c *daemon.NAT, guests int) {
	if c.MTU < nat.MinMTU6 && !c.NoIPv6 {
		log.Warn("no IPv6 for the guest: the MTU is too small", "mtu", c.MTU, "needs", nat.MinMTU6)
	}
	if !c.Restrict && len(c.Rules) > 0 && !slices.ContainsFunc(c.Rules, mattersAlone) {
		log.Warn("--allow changes nothing: without --deny or --restrict all of it is open")
	}
	if c.Hostname != "" && guests > 1 {
		log.Warn("all guests get the same host name", "hostname", c.Hostname)
	}
	if n := runtime.NumCPU(); c.Queues > n {
		log.Warn("more queue pairs than processors: threads share them", "queues", c.Queues, "processors", n)
	}
}

// mattersAlone reports whether a rule changes anything without others: it closes something, or opens what is closed else.
func mattersAlone(r spec.Rule) bool {
	return !r.Allow || nat.NamesLinkLocal(r) || r.Way != (spec.Way{})
}
