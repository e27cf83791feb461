package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/tap"
)

// tapFlags are the flags of "vring tap", as text.
type tapFlags struct {
	serveFlags
	names  []string
	bridge string
	vlan   uint16
	trunk  string
	queues int
	mtu    int
	mac    string
	reopen bool
}

// newTAP is "vring tap".
func newTAP() *cobra.Command {
	var flags tapFlags
	cmd := &cobra.Command{
		Use:   "tap --socket-path PATH --tap NAME [--bridge NAME]",
		Short: "Connect a guest to a TAP device of the host, and to a bridge",
		Long: `The guest's frames go to a TAP device of the host and come from there, with the host's own network behind it:
bridges, VLANs, routes, firewalls. Checksums and segmentation that guest and host leave to each other pass undone, so
that a frame of 64 KiB costs one system call and one copy.

The TAP device is created if there is none, which needs CAP_NET_ADMIN, and goes away with vring. One that exists is left
as it was; an ordinary user may use one that root has made for him:
  ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user alice
  ip link set tap0 up master br0

With --bridge the device becomes a port of a bridge. A bridge that does not exist is created, and removed again with its
last port.

On a bridge that looks at VLANs (vlan_filtering) --vlan says in which one the guest is, and --trunk which ones reach it
with their tags; with --trunk alone, frames without a tag do not pass.

With --queues the guest may use several queue pairs (in QEMU: queues=N of -netdev, mq=on of the device), each served by
a thread of its own. The device has a carrier while a guest is there.

More --socket-path are more guests in one process, each with its own --tap, in order.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return serveTAP(cmd.Context(), &flags, cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&flags.names, "tap", nil, "the TAP device (repeatable: one for each --socket-path)")
	f.StringVar(&flags.bridge, "bridge", "", "the bridge that the device joins")
	f.Uint16Var(&flags.vlan, "vlan", 0, "the VLAN of the guest's frames without a tag, on the bridge")
	f.StringVar(&flags.trunk, "trunk", "", "VLANs of the bridge whose frames the guest gets with their tags, as in 20,30-39")
	f.IntVar(&flags.queues, "queues", 1, "queue pairs that the guest can use")
	f.IntVar(&flags.mtu, "mtu", 0, "MTU of the device in bytes (default: left alone, 1500 for a new one)")
	f.StringVar(&flags.mac, "mac", "", "MAC address of the host's end of the device (default: left alone)")
	f.BoolVar(&flags.reopen, "reopen", false, "wait for a device that was deleted to come back, instead of ending")
	return cmd
}

// configs are what is to be opened for each guest. The error holds all that is wrong.
func (f *tapFlags) configs() ([]tap.Config, error) {
	if len(f.names) != len(f.sockets()) {
		return nil, fmt.Errorf("each --socket-path needs its --tap: there are %d and %d", len(f.sockets()), len(f.names))
	}
	var mac net.HardwareAddr
	var faults []error
	if f.mac != "" {
		var err error
		if mac, err = net.ParseMAC(f.mac); err != nil {
			faults = append(faults, fmt.Errorf("--mac %q: want an address, as in fe:54:00:12:34:56", f.mac))
		}
	}
	vlans := tap.VLANs{Access: f.vlan}
	if f.trunk != "" {
		var err error
		if vlans.Trunk, err = tap.ParseVLANs(f.trunk); err != nil {
			faults = append(faults, fmt.Errorf("--trunk: %w", err))
		}
	}
	var configs []tap.Config
	for _, name := range f.names {
		c := tap.Config{
			Name: name, Queues: f.queues, Bridge: f.bridge, VLANs: vlans, MTU: f.mtu, MAC: mac, Reopen: f.reopen,
		}
		faults = append(faults, c.Check())
		configs = append(configs, c)
	}
	return configs, errors.Join(faults...)
}

func serveTAP(ctx context.Context, flags *tapFlags, stderr io.Writer) error {
	configs, err := flags.configs()
	if err := wrongUse(flags.check(), err); err != nil {
		return err
	}
	log := flags.logger(stderr)
	devices, err := openTAPs(configs)
	if err != nil {
		return err
	}
	var guests []guest
	for _, d := range devices {
		guests = append(guests, tapGuest(d))
	}
	done := make(chan struct{})
	defer close(done)
	if err := watchTAPs(log, devices, done); err != nil {
		return errors.Join(err, closeTAPs(devices))
	}
	keeper, err := startKeeper(configs, devices)
	if err != nil {
		return errors.Join(err, closeTAPs(devices))
	}
	flags.needs.TAP, flags.needs.Reopen = true, flags.reopen
	describe := func() { logTAPs(log, configs, devices) }
	return errors.Join(flags.serve(ctx, log, stderr, guests, describe), keeper.undo())
}

// watchTAPs logs what others do to the devices, until done is closed.
func watchTAPs(log *slog.Logger, devices []*tap.Device, done <-chan struct{}) error {
	for _, d := range devices {
		if err := d.Watch(done, func(n netbackend.Notice) { logNotice(log, n) }); err != nil {
			return err
		}
	}
	return nil
}

// tapGuest is the guest of a device.
func tapGuest(d *tap.Device) guest {
	g := guest{name: d.Name(), lost: d.Lost()}
	for _, p := range d.Ports() {
		g.ports = append(g.ports, p)
	}
	g.report = func(pair int, _ int64) report { return report{counters: d.Ports()[pair].Counters()} }
	return g
}

// openTAPs opens all devices, or none.
func openTAPs(configs []tap.Config) ([]*tap.Device, error) {
	var devices []*tap.Device
	for _, c := range configs {
		d, err := tap.Open(c)
		if err != nil {
			return nil, errors.Join(err, closeTAPs(devices))
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// logTAPs logs what the guests' devices are.
func logTAPs(log *slog.Logger, configs []tap.Config, devices []*tap.Device) {
	for i, d := range devices {
		c := &configs[i]
		log.Info("network", "tap", d.Name(), "bridge", c.Bridge, "mtu", d.MTU(), "queues", c.Queues)
	}
}

// closeTAPs closes devices that are not served, and undoes what was changed for them.
func closeTAPs(devices []*tap.Device) error {
	var errs []error
	for _, d := range devices {
		changes := d.Changes()
		errs = append(errs, d.Close(), changes.Undo())
	}
	return errors.Join(errs...)
}
