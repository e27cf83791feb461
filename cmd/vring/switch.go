package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/tap"
)

// switchFlags are the flags of "vring switch", as text.
type switchFlags struct {
	serveFlags
	vlanFlags
	name     string
	isolated bool
	maxMACs  int
	ip       []string
	flood    int
	ageing   int
	uplinks  []string
}

// newSwitch is "vring switch".
func newSwitch() *cobra.Command { return switchCommand().cmd }

// switchCommand is newSwitch with its flags.
func switchCommand() *networkCommand {
	var flags switchFlags
	cmd := &cobra.Command{
		Use:   "switch --socket-path PATH --socket-path PATH...",
		Short: "Connect guests to each other, by a switch, without rights and without the host's network",
		Long: `Connect guests to each other by an Ethernet switch in this process. It needs no rights, no TAP device and no bridge, and
leads nowhere else: not to the host, and not to its network.

Each --socket-path is a port of the switch, for one guest:
  vring switch --socket-path /tmp/a.sock --socket-path /tmp/b.sock

The switch learns where MAC addresses are, and sends frames for others to all, at most --flood a second from each guest.
Checksum and segmentation offloads pass through: a frame of 64 KiB passes as one to a guest that takes it, and is cut for one that
does not. A guest that takes no frames loses its own, and nobody else's.

There is no DHCP: give the guests addresses, or let one of them serve them. IPv6 has link-local addresses by itself.

With --isolated the guests cannot reach each other; that is for guests on a switch with others, which a file has. In a file
each guest has VLANs and a MAC address of its own, and there can be several switches: see docs/switch.md.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return flags.serve(cmd.Context(), flags.whole)
		},
	}
	flags.serveFlags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.name, "switch-name", "", "name of the switch, for guests that are added later")
	flags.vlanFlags.add(f, "VLAN of the guests' frames without a tag, 1 to 4094; without it 1, or with --trunk none",
		"VLANs whose frames the guests send and get with their tags, as in 20,30-39",
		"the only MAC address that frames of the one guest may come from")
	addUplinkFlag(f, &flags.uplinks)
	f.BoolVar(&flags.isolated, "isolated", false, "keep the guests from others that are isolated")
	f.IntVar(&flags.maxMACs, "max-macs", 0, "how many MAC addresses frames of a guest may come from; 0 for no limit")
	f.StringSliceVar(&flags.ip, "ip", nil, "the only addresses of IP that the one guest may have, as in 192.0.2.1,fe80::/64; frames that claim others do not pass")
	f.IntVar(&flags.flood, "flood", 0, "frames per second that a guest may send to groups and unknown addresses (default: 5000)")
	f.IntVar(&flags.ageing, "ageing", 0, "seconds for which a MAC address is known that is not seen (default: 300)")
	return &networkCommand{cmd, flags.whole}
}

// config turns the flags into a configuration. The error holds all that cannot be read.
func (f *switchFlags) config() (*daemon.Switch, error) {
	var errs *multierror.Error
	for _, v := range []struct {
		name   string
		isZero bool
	}{{"vlan", f.vlan == 0}, {"flood", f.flood == 0}, {"ageing", f.ageing == 0}} {
		if f.given(v.name) && v.isZero {
			errs = multierror.Append(errs, fmt.Errorf("--%s 0: leave the flag out for what is usual", v.name))
		}
	}
	vlans, mac, err := f.vlanFlags.read()
	c := daemon.Switch{Name: f.name, VLANs: vlans, Isolated: f.isolated, MAC: mac, MaxMACs: f.maxMACs, Flood: f.flood, Ageing: f.ageing}
	errs = multierror.Append(errs, err)
	for _, text := range f.ip {
		p, err := daemon.ParseBound(text)
		errs = multierror.Append(errs, err)
		c.IP = append(c.IP, p)
	}
	return &c, errs.ErrorOrNil()
}

// whole is the configuration that the flags say. The error holds all that cannot be read.
func (f *switchFlags) whole() (daemon.Config, error) {
	c, unread := f.serveFlags.config()
	network, unreadNetwork := f.config()
	c.Switch = network
	badUplinks := setUplinks(&c, f.uplinks)
	return c, multierror.Append(nil, unread, unreadNetwork, badUplinks).ErrorOrNil()
}

// addUplinkFlag adds the flag of a switch's uplinks.
func addUplinkFlag(f *pflag.FlagSet, to *[]string) {
	f.StringArrayVar(to, "switch-uplink", nil, "where the switch leads beyond this process: "+daemon.UplinkForm+"; repeat it for more")
}

// setUplinks gives the guests' switch its uplinks.
func setUplinks(c *daemon.Config, texts []string) error {
	if len(texts) == 0 {
		return nil
	}
	if c.Switch == nil {
		return errors.New("--switch-uplink needs a switch: give it a name by --switch-name")
	}
	var errs *multierror.Error
	s := daemon.SwitchSettings{Name: c.Switch.Name}
	for _, text := range texts {
		u, err := daemon.ParseUplink(text)
		errs = multierror.Append(errs, err)
		s.Uplinks = append(s.Uplinks, u)
	}
	c.Switches = append(c.Switches, s)
	return errs.ErrorOrNil()
}

// logSwitches logs what the guests' ports are.
func logSwitches(log *slog.Logger, guests []daemon.Network) {
	for _, g := range guests {
		s := g.Switch
		if g.Uplink != nil {
			log.Info("uplink", "switch", s.Name, "name", g.Guest, "to", g.Uplink.String())
			continue
		}
		log.Info("network", "switch", s.Name, "vlan", s.VLANs.Access, "trunk", tap.FormatVLANs(s.VLANs.Trunk), "isolated", s.Isolated)
	}
}
