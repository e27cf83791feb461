package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/netbackend/nat"
)

// natFlags are the flags of "vring nat", as text.
type natFlags struct {
	serveFlags
	forwards  []string
	network   string
	network6  string
	mtu       int
	allowHost []string
	rules     ruleTexts
	restrict  bool
	dns       []string
	onePort   bool
	queues    int
	grace     time.Duration
	hostname  string
	domain    string
}

// newNAT is "vring nat".
func newNAT() *cobra.Command {
	var flags natFlags
	cmd := &cobra.Command{
		Use:   "nat --socket-path PATH [-p HOST-PORT:GUEST-PORT]...",
		Short: "Give a guest a network of its own behind the host's, with forwards into it",
		Long: `The guest gets its address by DHCP and reaches what the host reaches; nobody reaches the guest but by the forwards.
No right is needed, and nothing of the host is changed.

In the default network 10.0.2.0/24 the guest is 10.0.2.15, its router is 10.0.2.2 and its name server 10.0.2.3. In IPv6
it chooses an address in fd00:10:0:2::/64 itself, and gets ::15 if it asks by DHCPv6; its router is ::2, its name server ::3.

More --socket-path are more guests in one process: 10.0.2.16, 10.0.2.17 and so on, in order. They cannot reach each
other. A forward leads to the first guest unless it names the address of another.

With --queues the guest may use several queue pairs (in QEMU: queues=N of -netdev, mq=on of the device), each served by
a thread of its own.

A forward reads [OPTION:]...[tcp:|udp:][HOST-ADDRESS:]HOST-PORT[-LAST]:[GUEST-ADDRESS:]GUEST-PORT[-LAST]:
  -p 8080:80                 port 8080 of the host's loopback leads to port 80 of the guest
  -p 0.0.0.0:2222:22         from anywhere
  -p udp:5353:5353           UDP
  -p 6000-6009:6000-6009     ten ports
  -p 2223:10.0.2.16:22       into the second guest
  -p [::]:8080:80            from anywhere by IPv6; the guest's side may still be IPv4
  -p 8080:[fd00:10:0:2::15]:80      to the guest's IPv6 address, if it has asked for it by DHCPv6: ::15 is the first guest,
                             ::16 the second
  -p unix:/run/vm0-web.sock:80      from a unix socket, which only its owner may use (mode 0600); TCP in the guest

Options of a TCP forward stand in front of it, in any order:
  -p gate:8080:80            refuse connections while port 80 of the guest does (not for unix sockets)
  -p send-proxy:8080:80      tell the guest's service who its client is: by a PROXY header, version 1, before the stream
  -p send-proxy-v2:8080:80   the same in version 2
  -p accept-proxy:8080:80    a proxy connects, and tells by a PROXY header of either version who its client is. It is
                             believed: nobody else may have a way to the port

The host's own services are closed to the guest. What is to be open is said by its port:
  --allow-host tcp:5201      10.0.2.2:5201 leads to 127.0.0.1:5201, and [fd00:10:0:2::2]:5201 to [::1]:5201
  --allow-host udp:192.0.2.1:53
  --allow-host icmp:192.0.2.1

The rest of the world is open. Rules change that; of all --allow and --deny the first that matches decides:
  --allow 192.168.1.7:443 --deny 192.168.0.0/16     one service of the local network, and no other
  --deny tcp:0.0.0.0/0:25 --deny tcp:[::/0]:25      no mail
  --restrict --allow tcp:192.0.2.0/24:443           nothing else at all

What opens what, in the order in which it is asked:
  1. The router's DHCP, echo and the name server's port 53 are vring's own and always there. With --restrict only
     resolvers given by --dns are asked, for a query can carry anything anywhere.
  2. --allow-host opens the host: its loopback (as 10.0.2.2) and its other addresses, one port at a time. No rule does,
     not even --allow 0.0.0.0/0, and no rule closes it again.
  3. Rules. Those of IPv4 say nothing of IPv6. Link-local addresses (169.254.0.0/16, where clouds keep a machine's
     credentials, and fd00:ec2::/32, fd20:ce::/32 and fd00:c1::/32, where they do so in IPv6) are opened only by a rule
     that lies within such a network.
  4. What no rule names is open, but for link-local addresses, and with --restrict closed.
Answers to what came in by a forward are never asked about.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return serveNAT(cmd.Context(), &flags, cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&flags.forwards, "forward", "p", nil, "open a port or a unix socket of the host that leads into the guest (repeatable)")
	f.StringArrayVar(&flags.allowHost, "allow-host", nil, "open a service of the host to the guest: [tcp:|udp:][ADDRESS:]PORT, or icmp:ADDRESS (repeatable)")
	flags.rules.add(f)
	f.BoolVar(&flags.restrict, "restrict", false, "close to the guest whatever --allow and --allow-host do not open")
	f.StringVar(&flags.network, "network", "10.0.2.0/24", "the guest's network: its router is .2, its name server .3, the guest .15")
	f.StringVar(&flags.network6, "network6", defaultNetwork6, "the guest's network of IPv6, a /64: its router is ::2, its name server ::3; or off")
	f.IntVar(&flags.mtu, "mtu", 1500, "the guest's MTU in bytes, told by DHCP and router advertisements")
	f.StringArrayVar(&flags.dns, "dns", nil, "resolver that the guest's queries go to, ADDRESS[:PORT] (repeatable; default: the host's, by /etc/resolv.conf)")
	f.IntVar(&flags.queues, "queues", 1, "queue pairs that each guest can use, each served by a thread of its own")
	f.BoolVar(&flags.onePort, "udp-endpoint-independent", false, "give each UDP port of the guest one port of the host, whomever it speaks to (for peer-to-peer programs)")
	f.DurationVar(&flags.grace, "reconnect-grace", 0, "keep connections for so long when the front end goes, in case that it comes back (default: they are reset at once)")
	f.StringVar(&flags.hostname, "hostname", "", "host name that DHCP gives the guest")
	f.StringVar(&flags.domain, "domain", "", "domain name that DHCP gives the guest")
	return cmd
}

// config turns the flags into the engine's configuration. The error holds all that is wrong.
func (f *natFlags) config() (nat.Config, error) {
	c := nat.DefaultConfig()
	c.MTU, c.Hostname, c.Domain = f.mtu, f.hostname, f.domain
	c.EndpointIndependent, c.Queues, c.ReconnectGrace = f.onePort, f.queues, f.grace
	var errs *multierror.Error
	fail := func(err error) {
		if err != nil {
			errs = multierror.Append(errs, err)
		}
	}
	prefix, err := netip.ParsePrefix(f.network)
	if err != nil {
		fail(fmt.Errorf("--network %q: want an address and a length, as in 10.0.2.0/24", f.network))
	} else {
		fail(c.SetNetwork(prefix))
	}
	fail(f.setNetwork6(&c))
	for _, text := range f.forwards {
		forward, err := nat.ParseForward(text)
		if err != nil {
			fail(err)
			continue
		}
		c.Forwards = append(c.Forwards, forward)
	}
	for _, text := range f.allowHost {
		service, err := nat.ParseHostService(text)
		fail(err)
		c.AllowHost = append(c.AllowHost, service)
	}
	c.Restrict = f.restrict
	c.Rules, err = f.rules.parse()
	fail(err)
	for _, text := range f.dns {
		resolver, err := parseResolver(text)
		if err != nil {
			fail(err)
			continue
		}
		c.Resolvers = append(c.Resolvers, resolver)
	}
	fail(c.Check())
	return c, errs.ErrorOrNil()
}

// defaultNetwork6 is what nat.DefaultConfig has, where the host knows IPv6.
const defaultNetwork6 = "fd00:10:0:2::/64"

// setNetwork6 gives c the network of IPv6 that the flag says. The default one is left out where the host knows no IPv6.
func (f *natFlags) setNetwork6(c *nat.Config) error {
	switch f.network6 {
	case defaultNetwork6:
		return nil
	case "off":
		return c.SetNetwork6(netip.Prefix{})
	}
	prefix, err := netip.ParsePrefix(f.network6)
	if err != nil {
		return fmt.Errorf("--network6 %q: want an address and a length, as in fd00:10:0:2::/64, or off", f.network6)
	}
	if !nat.HasIPv6() {
		return fmt.Errorf("--network6 %s: the host's kernel has no IPv6", prefix)
	}
	return c.SetNetwork6(prefix)
}

// configs are the configurations of all guests.
func (f *natFlags) configs() ([]nat.Config, error) {
	c, err := f.config()
	all, tooMany := c.ForGuests(len(f.sockets()))
	return all, multierror.Append(nil, err, tooMany).ErrorOrNil()
}

// parseResolver reads ADDRESS[:PORT].
func parseResolver(text string) (netip.AddrPort, error) {
	const dnsPort = 53
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, dnsPort), nil
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return ap, fmt.Errorf("--dns %q: want ADDRESS[:PORT], as in 127.0.0.1:5353", text)
	}
	return ap, nil
}

func serveNAT(ctx context.Context, flags *natFlags, stderr io.Writer) error {
	configs, err := flags.configs()
	if err := wrongUse(flags.check(), err); err != nil {
		return err
	}
	log := flags.logger(stderr)
	guests, err := newEngines(configs)
	if bind := new(nat.BindError); errors.As(err, &bind) {
		return wrongUse(err)
	}
	if err != nil {
		return err
	}
	flags.needs.Internet = true
	flags.needs.Remove = append(flags.needs.Remove, forwardPaths(configs)...)
	if len(configs[0].Resolvers) == 0 {
		flags.needs.Read = []string{configs[0].ResolvConf}
	}
	return flags.serve(ctx, log, stderr, guests, func() { logNetworks(log, configs) })
}

// forwardPaths are the unix sockets of all forwards, which are removed in the end.
func forwardPaths(configs []nat.Config) (paths []string) {
	for _, c := range configs {
		for _, f := range c.Forwards {
			if f.Path != "" {
				paths = append(paths, f.Path)
			}
		}
	}
	return paths
}

// newEngines opens an engine for each guest, or none.
func newEngines(configs []nat.Config) ([]guest, error) {
	var guests []guest
	var errs *multierror.Error
	for _, config := range configs {
		pairs, err := nat.NewPairs(config)
		if err != nil {
			errs = multierror.Append(errs, err)
			continue
		}
		guests = append(guests, natGuest(config.Guest.String(), pairs))
	}
	if errs == nil {
		return guests, nil
	}
	for _, g := range guests {
		errs = multierror.Append(errs, g.close())
	}
	return nil, errs
}

// natGuest is the guest whose queue pairs are those.
func natGuest(name string, pairs []*nat.Port) guest {
	g := guest{name: name}
	for _, p := range pairs {
		g.ports = append(g.ports, p)
	}
	g.report = func(pair int, now int64) report {
		s := pairs[pair].Snapshot(now)
		return report{s.Flows, s.Usage, s.Counters}
	}
	return g
}

// logNetworks logs what the guests' networks are.
func logNetworks(log *slog.Logger, configs []nat.Config) {
	for i := range configs {
		logNetwork(log, &configs[i])
	}
	if err := nat.CheckPing(); err != nil && !configs[0].Restrict {
		log.Warn("the guest cannot ping anybody but its router", "reason", err)
	}
}

func logNetwork(log *slog.Logger, c *nat.Config) {
	log.Info("network", "prefix", c.Prefix, "guest", c.Guest, "router", c.Gateway, "dns", c.DNS, "mtu", c.MTU)
	if c.Prefix6.IsValid() {
		log.Info("network of IPv6", "prefix", c.Prefix6, "guest", c.Guest6, "router", c.Gateway6, "dns", c.DNS6)
	}
	for _, f := range c.Forwards {
		to := f.Guest.Addr()
		if !to.IsValid() {
			to = c.Guest
		}
		from := f.Host.String()
		if f.Path != "" {
			from = f.Path
		}
		log.Info("forward", "from", from, "to", netip.AddrPortFrom(to, f.Guest.Port()), "ports", f.Count)
	}
}
