package daemon

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/uplink"
)

// Guests can be behind NAT and on a switch: each has an engine of its own for what leaves, and reaches the others over the switch. They have one
// network, and addresses of their own in it, whether they share their settings or have settings of their own each.

// checkOnSwitch returns what guests of a switch cannot have.
func (n *NAT) checkOnSwitch() error {
	var errs *multierror.Error
	if n.Queues > 1 {
		errs = multierror.Append(errs, faultf("%s %d: a guest on a switch has one queue pair; leave it out", optionQueues, n.Queues))
	}
	if n.Shared {
		errs = multierror.Append(errs, faultf("%s: guests on a switch have a network of their own; leave it out", optionShared))
	}
	return errs.ErrorOrNil()
}

// onSwitch returns the switch of the guests, nil if they are on none.
func (p *natPlan) onSwitch(d *Daemon) (*oneSwitch, error) {
	if p.lan == nil {
		return nil, nil
	}
	return d.switches.get(p.lan)
}

// neighbour is the place of a guest of the plan on its switch.
func (p *natPlan) neighbour(on *oneSwitch) nat.Neighbour {
	if on == nil {
		return nat.Neighbour{}
	}
	port := p.lan.port()
	return nat.Neighbour{LAN: &on.lan, Name: p.name, VLAN: port.VLAN, Isolated: port.Isolated}
}

// connect connects a guest with an engine. After an error the engine is open still.
func (s *oneSwitch) connect(said *Switch, engine *nat.Port) (*uplink.Port, error) {
	lan, err := s.NewPort(said.port())
	if err != nil {
		return nil, faultf("switch: %w", err)
	}
	port, err := uplink.New(lan, engine)
	if err != nil {
		return nil, multierror.Append(faultf("switch: %w", err), lan.Close())
	}
	return port, nil
}

// lans are the networks of switches whose guests are behind NAT, by the names of switches.
type lans map[string]*lanPlan

// lanPlan is the network of one switch.
type lanPlan struct {
	first   *nat.Config  // of its guests; nil for none
	named   []netip.Addr // addresses that the configuration gives to guests
	configs []*nat.Config
}

// newLANs are those of a configuration, without guests.
func newLANs(parts []part) lans {
	all := lans{}
	for i := range parts {
		if p := &parts[i]; p.nat != nil && p.lan != nil {
			l := all.of(p)
			l.named = append(l.named, p.nat.GuestAddresses...)
		}
	}
	return all
}

func (all lans) of(p *part) *lanPlan {
	if all[p.lan.Name] == nil {
		all[p.lan.Name] = &lanPlan{}
	}
	return all[p.lan.Name]
}

// taken are the addresses that others have of the network that guests are to have.
func (all lans) taken(p *part) (taken []netip.Addr) {
	if p.nat == nil || p.lan == nil {
		return nil
	}
	l := all.of(p)
	for _, c := range l.configs {
		taken = append(taken, addressesOf(c)...)
	}
	for _, a := range l.named {
		if !slices.Contains(p.nat.GuestAddresses, a) {
			taken = append(taken, a)
		}
	}
	return taken
}

// addressesOf are the addresses that a guest is promised.
func addressesOf(c *nat.Config) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{c.Guest, c.Guest6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// add adds the guests of a plan. The error is that their network is not that of the others, or that two have one address.
func (all lans) add(p *part, planned plan) error {
	if p.nat == nil || p.lan == nil {
		return nil
	}
	l := all.of(p)
	var errs *multierror.Error
	configs := planned.(*natPlan).configs
	for i := range configs {
		c := &configs[i]
		l.first = cmp.Or(l.first, c)
		errs = multierror.Append(errs, p.lan.sameNetwork(l.first, c))
	}
	for _, a := range p.nat.GuestAddresses {
		if len(configs) > 0 && !slices.Contains(addressesOf(&configs[0]), a) && slices.Contains(configs[0].Others, a) {
			errs = multierror.Append(errs, faultf("%s %s: another guest of the switch %q has it; want another one", optionGuestAddress, a, p.lan.Name))
		}
	}
	for i := range configs {
		l.configs = append(l.configs, &configs[i])
	}
	return errs.ErrorOrNil()
}

// introduce tells all guests the addresses of the others of their switch.
func (all lans) introduce() {
	for _, l := range all {
		for _, c := range l.configs {
			c.Others = nil
			for _, other := range l.configs {
				if other != c {
					c.Others = append(c.Others, addressesOf(other)...)
				}
			}
		}
	}
}

// sameNetwork returns in what the networks of two guests of the switch differ.
func (s *Switch) sameNetwork(a, b *nat.Config) error {
	var errs *multierror.Error
	for _, c := range []struct {
		option Option
		a, b   any
	}{
		{optionNetwork, a.Prefix, b.Prefix}, {optionNetwork6, a.Prefix6, b.Prefix6}, {optionRouter, a.Gateway, b.Gateway}, {optionRouter, a.Gateway6, b.Gateway6},
		{optionDNSRelay, a.DNS, b.DNS}, {optionDNSRelay, a.DNS6, b.DNS6}, {optionRouterMAC, a.GatewayMAC, b.GatewayMAC},
	} {
		if c.a != c.b {
			errs = multierror.Append(errs, faultf("%s of the switch %q is %s for one guest and %s for another: all guests of a switch have one network", c.option, s.Name, c.a, c.b))
		}
	}
	return errs.ErrorOrNil()
}
