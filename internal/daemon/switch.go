package daemon

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/tap"
)

// Switch connects guests to a switch in this process. All that name the same one are on it, whether or not they share the rest.
type Switch struct {
	// Name is which switch it is; "" is the one without a name. At most 64 bytes.
	Name string `option:"switch-name" fixed:"a guest has one Port as long as it is served"`
	// VLANs are those of each guest: the zero value is VLAN 1, without tags.
	VLANs tap.VLANs `option:"vlan,trunk" fixed:"a guest has one Port as long as it is served"`
	// Isolated keeps the guests from others that are isolated.
	Isolated bool `option:"isolated" fixed:"a guest has one Port as long as it is served"`
	// MAC is the only address that frames of the one guest may come from; nil does not bind it.
	MAC net.HardwareAddr `option:"mac" fixed:"a guest has one Port as long as it is served"`
	// MaxMACs is how many addresses frames of a guest may come from; 0 is no limit.
	MaxMACs int `option:"max-macs" unit:"addresses" fixed:"a guest has one Port as long as it is served"`
	// IP are the only addresses of IP that the one guest may have; none does not bind it. A Prefix of one address is that address.
	IP []netip.Prefix `option:"ip" fixed:"a guest has one Port as long as it is served"`
	// Flood is how many frames to groups and unknown addresses a guest may send; 0 is what others say of the switch, or DefaultFlood.
	Flood int `option:"flood" unit:"frames per second" default:"5000" fixed:"the switch is made once"`
	// Ageing is for how long an address is known that is not seen; 0 is what others say of the switch, or DefaultAgeing.
	Ageing int `option:"ageing" unit:"seconds" default:"300" fixed:"the switch is made once"`
}

// SwitchSettings are what holds for a whole switch, whether it has guests or not. 0 leaves it to what guests say.
type SwitchSettings struct {
	Name          string // of the switch; "" is the one without a name
	Flood, Ageing int    // as those of Switch
	// Uplinks lead the switch to switches of other hosts.
	Uplinks []Uplink
}

// whole is a Switch of which nothing else is said.
func (s *SwitchSettings) whole() *Switch {
	return &Switch{Name: s.Name, Flood: s.Flood, Ageing: s.Ageing}
}

// checkSwitches returns what is wrong with what is said of whole switches.
func (c *Config) checkSwitches() error {
	var errs *multierror.Error
	known := map[string]bool{}
	for i := range c.Switches {
		s := &c.Switches[i]
		if s.Name != "" {
			errs = multierror.Append(errs, checkName(optionSwitchName, s.Name))
		}
		if known[s.Name] {
			errs = multierror.Append(errs, faultf("%s %q is given twice in switches: say all of a switch once", optionSwitchName, s.Name))
		}
		known[s.Name] = true
		config := s.whole().config()
		if err := config.Check(); err != nil {
			errs = multierror.Append(errs, faultf("switch: %w", err))
		}
	}
	return errs.ErrorOrNil()
}

// What a switch has if nobody says anything.
const (
	DefaultFlood  = 5000
	DefaultAgeing = 300
)

// port is the configuration of each guest's Port.
func (s *Switch) port() (c l2switch.PortConfig) {
	c = l2switch.PortConfig{VLAN: s.VLANs.Access, Isolated: s.Isolated, MaxAddresses: s.MaxMACs, IP: s.IP}
	for _, r := range s.VLANs.Trunk {
		for vid := int(r.First); vid <= int(r.Last); vid++ {
			if vid != int(c.VLAN) {
				c.Tagged = append(c.Tagged, uint16(vid))
			}
		}
	}
	if s.MAC != nil {
		c.Fixed = [][6]byte{[6]byte(s.MAC)}
	}
	return c
}

// config is that of the switch, if nobody else says anything of it.
func (s *Switch) config() l2switch.Config {
	c := l2switch.Default()
	c.Flood, c.Ageing = cmp.Or(s.Flood, DefaultFlood), time.Duration(cmp.Or(s.Ageing, DefaultAgeing))*time.Second
	return c
}

func (s *Switch) check(p places) (plan, error) {
	var errs *multierror.Error
	if s.Name != "" {
		errs = multierror.Append(errs, checkName(optionSwitchName, s.Name))
	}
	if s.MAC != nil && len(s.MAC) != len([6]byte{}) {
		errs = multierror.Append(errs, faultf("%s %s: want 6 bytes, as in 52:54:00:12:34:56", optionMAC, s.MAC))
		return nil, errs
	}
	if s.MAC != nil && len(p.sockets) > 1 {
		errs = multierror.Append(errs, faultf("%s %s: %d guests cannot have one address; give each a switch of its own below guests: in a file, with the same name",
			optionMAC, s.MAC, len(p.sockets)))
	}
	if s.IP != nil && len(p.sockets) > 1 {
		errs = multierror.Append(errs, faultf("%s %s: %d guests cannot have the same addresses; give each a switch of its own below guests: in a file, with the same name",
			optionIP, FormatBound(s.IP[0]), len(p.sockets)))
	}
	config, port := s.config(), s.port()
	for _, err := range []error{config.Check(), port.Check()} {
		if err != nil {
			errs = multierror.Append(errs, faultf("switch: %w", err))
		}
	}
	return &switchPlan{s, p.sockets}, errs.ErrorOrNil()
}

// saidOfSwitches returns what settings and all networks together say of each switch, by its name. The error is that two of them differ.
func saidOfSwitches(settings []SwitchSettings, all []part) (map[string]*Switch, error) {
	var errs *multierror.Error
	said := map[string]*Switch{}
	for i := range settings {
		said[settings[i].Name] = settings[i].whole()
	}
	for _, p := range all {
		switch {
		case p.lan == nil:
		case said[p.lan.Name] == nil:
			said[p.lan.Name] = clone(p.lan)
		default:
			errs = multierror.Append(errs, said[p.lan.Name].agree(p.lan))
		}
	}
	return said, errs.ErrorOrNil()
}

// agree takes over what somebody else says of the same switch, and returns where they differ.
func (s *Switch) agree(other *Switch) error {
	var errs *multierror.Error
	for _, c := range []struct {
		option Option
		was    *int
		is     int
	}{{optionFlood, &s.Flood, other.Flood}, {optionAgeing, &s.Ageing, other.Ageing}} {
		switch {
		case c.is == 0:
		case *c.was == 0:
			*c.was = c.is
		case *c.was != c.is:
			errs = multierror.Append(errs, faultf("%s of the switch %q is %d for one guest and %d for another: it is that of the whole switch", c.option, s.Name, *c.was, c.is))
		}
	}
	return errs.ErrorOrNil()
}

// switchPlan is a port of a switch for each guest.
type switchPlan struct {
	*Switch
	sockets []string // of the guests
}

func (s *switchPlan) names() []string { return s.sockets }

// open connects each guest.
func (s *switchPlan) open(d *Daemon) (o opened, err error) {
	lan, err := d.switches.get(s.Switch)
	if err != nil {
		return opened{}, err
	}
	for _, socket := range s.sockets {
		port, err := lan.NewPort(s.port())
		if err != nil {
			return opened{}, errors.Join(faultf("switch: %w", err), closeAll(o.guests))
		}
		o.guests = append(o.guests, guest{
			name: socket, network: Network{Switch: clone(s.Switch)}, ports: []netbackend.Port{port},
			counters: []counting.Source{counting.From(port.Counters)},
		})
	}
	return o, nil
}

// switches are those that guests have named, by their names, with what was said of each.
type switches map[string]*oneSwitch

type oneSwitch struct {
	said Switch
	*l2switch.Switch
	lan nat.LAN // of its guests that have an engine
}

// newSwitches are switches as their settings and all guests of the start want them.
func newSwitches(settings []SwitchSettings, parts []part) (switches, error) {
	said, err := saidOfSwitches(settings, parts)
	if err != nil {
		return nil, err
	}
	all := switches{}
	for _, s := range said {
		if err := all.add(s); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// add makes a switch.
func (all switches) add(s *Switch) error {
	lan, err := l2switch.New(s.config())
	if err != nil {
		return err
	}
	all[s.Name] = &oneSwitch{said: *s, Switch: lan}
	return nil
}

// get returns the switch that a guest names. It is made if there is none.
func (all switches) get(s *Switch) (*oneSwitch, error) {
	if one := all[s.Name]; one != nil {
		said := one.said
		said.Flood, said.Ageing = cmp.Or(said.Flood, DefaultFlood), cmp.Or(said.Ageing, DefaultAgeing)
		return one, said.agree(s)
	}
	if err := all.add(s); err != nil {
		return nil, err
	}
	return all[s.Name], nil
}
