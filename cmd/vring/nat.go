package main

import (
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// natFlags are the flags of "vring nat", as text.
type natFlags struct {
	serveFlags
	forwards    []string
	network     string
	network6    string
	mtu         int
	allowHost   []string
	expose      bool
	redirects   []string
	names       []string
	rules       ruleTexts
	restrict    bool
	nameGroups  []string
	refuseNames string
	dns         []string
	dnsFor      []string
	dnsCache    bool
	measure     bool
	onePort     bool
	filtering   string
	multicast   []string
	addresses   addressTexts
	queues      int
	grace       time.Duration
	hostname    string
	domain      string
	hosts       hostTexts
	way         wayFlags
	switchName  string
	uplinks     []string
}

// newNAT is "vring nat".
func newNAT() *cobra.Command { return natCommand().cmd }

// natCommand is newNAT with its flags.
func natCommand() *networkCommand {
	var flags natFlags
	cmd := &cobra.Command{
		Use:   "nat --socket-path PATH [-p HOST-PORT:GUEST-PORT]...",
		Short: "Give a guest a network of its own behind the host's, with forwards into it",
		Long: `Connect the guest to a network of its own behind the host. The guest gets its address by DHCP and can reach what the
host can reach. From outside it is reachable only through forwards. vring nat needs no privileges and changes nothing on
the host.

In the default network 10.0.2.0/24 the guest is 10.0.2.15, its router 10.0.2.2 and its name server 10.0.2.3. With IPv6 the
guest chooses an address in fd00:10:0:2::/64 itself (SLAAC), and DHCPv6 hands out fd00:10:0:2::15. The router is ::2 and the
name server ::3 in this network. With an MTU below 1280 there is no IPv6.

Repeat --socket-path to serve more guests in one process. They get 10.0.2.15, 10.0.2.16 and so on, in that order, and
cannot reach each other. With --switch-name they can: they are on a switch of that name, too. What leaves the switch goes by
each guest's own network as before. No guest can take the router's address, or be DHCP server or router for others. In a file
guests have names, by which the name server knows them: see docs/switch.md.

With --queues the guest can use several queue pairs (in QEMU: queues=N of -netdev, mq=on of the device), each served by
a thread of its own.

A forward is written in one of these forms:
  ` + spec.ForwardForm + `
  ` + spec.UnixForwardForm + `
A host address that is not given is 127.0.0.1. A guest address that is not given is that of the first guest. Examples:
  -p 8080:80                    port 8080 of the host's loopback leads to port 80 of the guest
  -p 0.0.0.0:2222:22            reachable through all IPv4 addresses of the host
  -p udp:5353:5353              UDP
  -p 6000-6009:6000-6009        ten ports
  -p 2223:10.0.2.16:22          into the second guest
  -p [::]:8080:80               reachable through all IPv6 addresses of the host; the guest's side is IPv4
  -p 8080:[fd00:10:0:2::15]:80  to the IPv6 address that the first guest gets by DHCPv6; the second one gets ::16
  -p unix:/run/vm0-web.sock:80  from a unix socket, which only its owner may use (mode 0600); TCP in the guest

Options of a TCP forward are written in front of it, in any order:
  -p gate:8080:80               refuse connections while port 80 of the guest does (not for unix sockets)
  -p send-proxy:8080:80         send the client's address to the guest's service, in a PROXY header of version 1
  -p send-proxy-v2:8080:80      the same in version 2
  -p accept-proxy:8080:80       expect a PROXY header of either version from the client, which is a proxy. vring believes
                                it: nothing but the proxy may be able to connect to the port

DHCP, DHCPv6 and router advertisements can tell hosts more. Options that are repeated add to each other:
  --search example.org                        a domain in which names are looked up; --search none tells of none
  --lease 52:54:00:12:34:56=10.0.2.50         a host gets a certain address. The first other host that asks gets 10.0.2.15,
                                              more of them (behind a bridge or macvlan in the guest) get one of a pool
  --route 192.168.7.0/24=10.0.2.50            a route by another host of the guest's network
  --ntp 192.0.2.123                           a time server, IPv4 or IPv6
  --boot-file http://10.0.2.2:8000/boot.ipxe  what to boot, here from the host (with --allow-host tcp:8000)
  --boot-file bios=undionly.kpxe --tftp /srv/tftp
                                              for one kind of client, by TFTP from the guest's router.
                                              The first --boot-file for a client counts. --boot-server names another server.
                                              Kinds: ` + hostconf.ClientKinds() + `, or a number of RFC 4578
  --dhcp-option 44=192.0.2.1,192.0.2.2        any option by its number: addresses,
  --dhcp-option 43=hex:0102ff                 bytes,
  --dhcp-option 114=https://portal.example/   or text (text:1.2.3.4 if it looks like an address). Without a value, as in 3=,
                                              the option is left out. --dhcp6-option does the same for DHCPv6

The guest finds printers, televisions and other services of a network that the host is in with --multicast INTERFACE. Its
questions go out there, by mDNS and SSDP, and answers and announcements of that network reach the guest. Nobody there
finds the guest by this. With --restrict, --allow must open the groups and whoever answers:
  --multicast eth0
  --multicast eth0 --restrict --allow udp:224.0.0.251:5353 --allow 192.168.1.0/24

With --measure the guest can measure its link, with programs that it has. The router then answers by TCP and UDP, and uses
no socket of the host for it (RFC 862, 863 and 864):
  dd if=/dev/zero bs=1M count=4000 | nc 10.0.2.2 9     discard: how fast the guest sends
  timeout 10 nc 10.0.2.2 19 | dd of=/dev/null bs=1M    chargen: how fast it receives
  nc 10.0.2.2 7                                        echo: what comes back, and when

By default the guest cannot reach services of the host. Open them one by one, in the form
` + spec.HostServiceForm + `:
  --allow-host tcp:5201         10.0.2.2:5201 leads to 127.0.0.1:5201, and [fd00:10:0:2::2]:5201 to [::1]:5201
  --allow-host 127.0.0.1:5201   the first of these only
  --allow-host tcp:6000-6009    ten ports
  --allow-host udp:192.0.2.1:53
  --allow-host icmp:192.0.2.1

A redirect leads a destination elsewhere, for TCP and UDP unless it says which. It is open, also if that is the host's own.
Without ports it leads all of them to the same numbers. The router takes the place of an address of the guest's network:
  --redirect tcp:10.0.2.100:5432=127.0.0.1:5432
  --redirect 10.0.2.254=127.0.0.1      all of the host's loopback, whatever listens there

What the guest sends leaves by the routes of the host, with an address of their choice. It can leave otherwise, all of it, or what
one rule allows, by keys behind the rule:
  --via socks5://192.0.2.1:1080                    TCP by a proxy, which is told names if the guest has asked for one; all else is closed
  --via http://USER:PASSWORD@127.0.0.1:3128        by CONNECT of HTTP. In a file of the configuration other users do not see passwords
  --outbound-interface wg0                         by this interface and no other, also while it is down or is not there
  --outbound-address 192.0.2.7                     with this address of the host
  --allow '198.51.100.0/24;interface=wg0'          what this rule allows
  --allow '0.0.0.0/0:443;redirect=127.0.0.1:8443'  to a proxy of yours, which a header of the PROXY protocol tells where to
  --allow '192.168.1.0/24;via=direct'              not by the proxy of --via

The guest can reach the rest of the world, unless rules change that. The first matching rule of all --allow and --deny
decides. A rule is written as
` + spec.RuleForm + `:
  --allow 192.168.1.7:443 --deny 192.168.0.0/16     one service of the local network, and no other
  --deny tcp:0.0.0.0/0:25 --deny tcp:[::/0]:25      no mail
  --restrict --allow tcp:192.0.2.0/24:443           nothing else at all

--allow-name and --deny-name are rules by name, in one list with the others. They are written as
` + spec.NameRuleForm + `:
  --restrict --allow-name '*.debian.org:80,443' --allow-name api.example.org:443
  --name-group work=names.txt --restrict --allow-name @work:443
example.org is that name, .example.org that name and all below it, *.example.org all below it, mirror-*.example.org has any
characters in the place of the *, and * is all names. A name opens the addresses that the name server has answered for it. On port 443 the connection must
name it in TLS, and on port 80 in HTTP; elsewhere the answer is enough. verify=dns, tls or http says otherwise, and private
lets the name have addresses in private networks. UDP to ports with TLS is closed; quic=verify opens it to QUIC whose first
packets name the name: --allow-name 'api.example.org:443;quic=verify'. While there are such rules, other name servers (ports 53 and 853, and
known ones by HTTPS) are closed. With --restrict, only names that an --allow-name names are answered. docs/network.md has the
rest.

Order of evaluation:
  1. The router's DHCP, ping, services of --measure and the name server's port 53 are vring's own, and always open. With
     --restrict only resolvers given by --dns are asked, because a query can carry data anywhere, unless rules allow names:
     these, and no others, are asked for.
  2. --allow-host opens services of the host: of its loopback (at 10.0.2.2) and at its other addresses. Rules cannot open
     them, not even --allow 0.0.0.0/0, and cannot close them.
     --redirect is decided before, and rules cannot close it either.
  3. Rules. IPv4 rules do not apply to IPv6. Link-local addresses (169.254.0.0/16), and the others at which clouds keep a
     machine's credentials (such as 100.100.100.200, 168.63.129.16 and fd00:ec2::/32; docs/network.md has all), are opened
     only by a rule whose network lies within such a network.
  4. Everything else is open, except those addresses. With --restrict it is closed.
Answers to connections that came in through a forward always pass.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return flags.serve(cmd.Context(), flags.whole)
		},
	}
	flags.addNAT(cmd)
	return &networkCommand{cmd, flags.whole}
}

// addNAT adds all flags of "vring nat" to a command.
func (f *natFlags) addNAT(cmd *cobra.Command) {
	f.add(cmd)
	f.queuesHint = queuesHint
	set := cmd.Flags()
	set.StringArrayVarP(&f.forwards, "forward", "p", nil, "forward a port or a unix socket of the host into the guest; see above (repeatable)")
	set.BoolVar(&f.expose, "expose", false, "let forwards that are added while guests are served listen at all addresses of the host, not at its loopback only")
	f.way.add(set)
	set.StringArrayVar(&f.redirects, "redirect", nil, "lead what the guest sends to a destination to another one, which may be the host's own: "+spec.RedirectForm+" (repeatable)")
	set.StringArrayVar(&f.names, "dns-name", nil, "answer the guest's queries for a name without a resolver, by UDP: "+dnszone.EntryForm+" (repeatable)")
	set.StringArrayVar(&f.allowHost, "allow-host", nil, "open a service of the host to the guest: "+spec.HostServiceForm+" (repeatable)")
	f.rules.add(set)
	set.BoolVar(&f.restrict, "restrict", false, "close everything that --allow, --allow-name and --allow-host do not open")
	set.StringArrayVar(&f.nameGroups, "name-group", nil, "names that rules name together, as @GROUP: GROUP=FILE, with one name a line (repeatable)")
	set.StringVar(&f.refuseNames, "refuse-names", nat.RefuseName.String(), "what the guest is told of a name that rules refuse: refused, or nxdomain, so that it asks no other name server")
	set.StringVar(&f.network, "network", "10.0.2.0/24", "IPv4 network of the guest: the router is .2, the name server .3, the guest .15")
	set.StringVar(&f.network6, "network6", defaultNetwork6, "IPv6 network of the guest, a /64: the router is ::2, the name server ::3; or off")
	set.IntVar(&f.mtu, "mtu", 1500, "MTU of the guest in bytes, announced by DHCP and router advertisements")
	set.StringArrayVar(&f.dns, "dns", nil, "resolver for the guest's queries: "+daemon.ResolverForm+" (repeatable; default: those of /etc/resolv.conf)")
	set.StringArrayVar(&f.dnsFor, "dns-for", nil, "ask other resolvers for a domain and all below it, and those for nothing else: "+dns.RouteForm+" (repeatable; the longest domain counts)")
	set.BoolVar(&f.dnsCache, "dns-cache", false, "keep answers of resolvers for as long as they say, and give them to the guest when it asks the same again by UDP")
	set.BoolVar(&f.measure, "measure", false, "let the router answer to echo, discard and chargen by TCP and UDP, so that the guest measures its link; see above")
	set.IntVar(&f.queues, "queues", 1, "number of queue pairs that each guest can use, each served by a thread of its own")
	set.BoolVar(&f.onePort, "udp-endpoint-independent", false, "use endpoint-independent mapping for UDP: one host port per guest port, whatever the destination (RFC 4787; for peer-to-peer programs)")
	set.StringVar(&f.filtering, "udp-filtering", nat.AddressAndPortDependent.String(), "who may send to a UDP port of the guest that has sent something (RFC 4787): address-and-port-dependent: whom it has sent to; address-dependent: the same from any port (TFTP); endpoint-independent: anybody, as with QEMU's user network (SIP, games). The last two imply --udp-endpoint-independent")
	set.StringArrayVar(&f.multicast, "multicast", nil, "interface of the host in whose network the guest finds services by mDNS and SSDP (repeatable; default: in none)")
	set.DurationVar(&f.grace, "reconnect-grace", 0, "how long to keep connections while the front end is disconnected or the guest is suspended (default 0: reset at once, or 5s after the driver has reset its device)")
	set.StringVar(&f.hostname, "hostname", "", "host name that DHCP announces to the guest")
	set.StringVar(&f.domain, "domain", "", "domain name that DHCP announces to the guest")
	addUplinkFlag(set, &f.uplinks)
	set.StringVar(&f.switchName, "switch-name", "", "name of a switch that the guests are on beside this network, on which they reach each other (default: none)")
	f.addresses.add(set)
	f.hosts.add(set)
}

// config turns the flags into a configuration. The error holds all that cannot be read.
func (f *natFlags) config() (*daemon.NAT, error) {
	c := daemon.NAT{
		MTU: f.mtu, Hostname: f.hostname, Domain: f.domain, Restrict: f.restrict,
		EndpointIndependent: f.onePort, Queues: f.queues, DNSCache: f.dnsCache, Measure: f.measure, Multicast: f.multicast, ReconnectGrace: f.grace,
	}
	errs := multierror.Append(nil, f.setFiltering(&c), f.setNetwork(&c), f.setNetwork6(&c))
	var err error
	c.Forwards, err = parseEach(f.forwards, spec.ParseForward)
	errs = multierror.Append(errs, err)
	services, err := parseEach(f.allowHost, spec.ParseHostServices)
	c.AllowHost, errs = slices.Concat(services...), multierror.Append(errs, err)
	c.Redirects, err = parseEach(f.redirects, spec.ParseRedirect)
	errs = multierror.Append(errs, err, f.way.parse(&c))
	c.Expose = f.expose
	c.Names, err = parseEach(f.names, dnszone.ParseEntry)
	errs = multierror.Append(errs, err)
	c.Rules, err = f.rules.parse()
	errs = multierror.Append(errs, err)
	c.NameGroups, err = parseEach(f.nameGroups, parseNameGroup)
	errs = multierror.Append(errs, err)
	if f.refuseNames != "" {
		c.RefuseNames, err = nat.ParseRefusal(f.refuseNames)
		errs = multierror.Append(errs, err)
	}
	c.Split, err = parseEach(f.dnsFor, daemon.ParseRoute)
	errs = multierror.Append(errs, err)
	c.Resolvers, err = parseEach(f.dns, daemon.ParseResolver)
	errs = multierror.Append(errs, err, f.hosts.parse(&c), f.addresses.parse(&c))
	return &c, errs.ErrorOrNil()
}

// defaultNetwork6 is the network of IPv6 where the host knows it.
const defaultNetwork6 = "fd00:10:0:2::/64"

// setFiltering gives c the filtering of UDP that the flag says.
func (f *natFlags) setFiltering(c *daemon.NAT) (err error) {
	if f.filtering == "" {
		return nil // see emptyValues
	}
	c.UDPFiltering, err = nat.ParseFiltering(f.filtering)
	return err
}

// setNetwork gives c the network of IPv4 that the flag says.
func (f *natFlags) setNetwork(c *daemon.NAT) (err error) {
	if f.network == "" {
		return nil // see emptyValues
	}
	c.Network, err = daemon.ParseNetwork(f.network)
	return err
}

// setNetwork6 gives c the network of IPv6 that the flag says.
func (f *natFlags) setNetwork6(c *daemon.NAT) error {
	if f.network6 == "" || !f.given("network6") { // see emptyValues
		return nil
	}
	return c.SetNetwork6(f.network6)
}

// whole is the configuration that the flags say. The error holds all that cannot be read.
func (f *natFlags) whole() (daemon.Config, error) {
	c, unread := f.serveFlags.config()
	network, unreadNetwork := f.config()
	c.NAT = network
	if f.switchName != "" {
		c.Switch = &daemon.Switch{Name: f.switchName}
	}
	badUplinks := setUplinks(&c, f.uplinks)
	return c, multierror.Append(nil, unread, unreadNetwork, badUplinks).ErrorOrNil()
}
