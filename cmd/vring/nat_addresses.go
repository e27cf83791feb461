package main

import (
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
)

// addressTexts are flags that set the addresses of the guest's network apart from the network, as text.
type addressTexts struct {
	guests, routers, relays, nameServers, without []string
	mac                                           string
	shared                                        bool
}

func (a *addressTexts) add(set *pflag.FlagSet) {
	set.StringArrayVar(&a.guests, "guest-address", nil, "address of the first guest, one of IPv4 and one of IPv6 (default: .15 and ::15 of its network)")
	set.StringArrayVar(&a.routers, "router", nil, "address of the guest's router, one of IPv4 and one of IPv6 (default: .2 and ::2). It may be outside of the network, and link-local in IPv6")
	set.StringVar(&a.mac, "router-mac", "", "Ethernet address of the router (default: 52:55 and its IPv4 address)")
	set.StringArrayVar(&a.relays, "dns-relay", nil, "address at which vring passes the guest's queries on to resolvers, one of IPv4 and one of IPv6 (default: .3 and ::3), which may be the router's; or off")
	set.StringArrayVar(&a.nameServers, "name-server", nil, "name server that the guest is told of (repeatable; default: --dns-relay), or none")
	set.BoolVar(&a.shared, "shared-network", false, "the guest's network is one that the host is in: other addresses of it are those of hosts there. The guest may have the host's own address")
	set.StringArrayVar(&a.without, "without", nil, "protocol that the guest does not have (repeatable): "+strings.Join(nat.ProtocolNames(), ", "))
}

// parse reads the texts into c. The error holds all that cannot be read.
func (a *addressTexts) parse(c *daemon.NAT) error {
	var errs [6]error
	c.Shared = a.shared
	c.GuestAddresses, errs[0] = parseEach(a.guests, daemon.ServerOf("guest-address"))
	c.Routers, errs[1] = parseEach(a.routers, daemon.ServerOf("router"))
	c.Without, errs[2] = parseEach(a.without, nat.ParseProtocol)
	if a.mac != "" {
		c.RouterMAC, errs[3] = daemon.ParseMAC("router-mac", a.mac)
	}
	for _, text := range a.relays {
		errs[4] = multierror.Append(errs[4], c.AddRelay(text)).ErrorOrNil()
	}
	for _, text := range a.nameServers {
		errs[5] = multierror.Append(errs[5], c.AddNameServer(text)).ErrorOrNil()
	}
	return multierror.Append(nil, errs[:]...).ErrorOrNil()
}
