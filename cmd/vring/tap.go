package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/hostcaps"
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
		Long: `Connect the guest to a TAP device of the host, and so to the host's own network: bridges, VLANs, routes, firewalls.
Checksum and segmentation offloads pass through, so a 64 KiB frame costs one system call and one copy.

A TAP device that does not exist is created, which needs CAP_NET_ADMIN, and is removed when vring ends. A device that
exists is left as it was. An ordinary user can use a device that root has made for this user:
  ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user alice
  ip link set tap0 up master br0

With --bridge the device becomes a port of a bridge. A bridge that does not exist is created. vring removes a bridge that it
created when the bridge has no ports left.

On a bridge with vlan_filtering, --vlan sets the VLAN of the guest's untagged frames, and --trunk the VLANs whose frames the
guest sends and gets with their tags. With --trunk alone, untagged frames do not pass.

With --queues the guest can use several queue pairs (in QEMU: queues=N of -netdev, mq=on of the device), each served by
a thread of its own. The device has a carrier while a guest is connected.

Repeat --socket-path to serve more guests in one process. Each needs a --tap of its own, in the same order.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return serveTAP(cmd.Context(), &flags, cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	flags.queuesHint = queuesHint
	f := cmd.Flags()
	f.StringArrayVar(&flags.names, "tap", nil, "TAP device of the host (repeatable: one for each --socket-path)")
	f.StringVar(&flags.bridge, "bridge", "", "bridge that the device joins")
	f.Uint16Var(&flags.vlan, "vlan", 0, "VLAN of the guest's untagged frames on the bridge, 1 to 4094")
	f.StringVar(&flags.trunk, "trunk", "", "VLANs of the bridge whose frames reach the guest with their tags, as in 20,30-39")
	f.IntVar(&flags.queues, "queues", 1, "number of queue pairs that the guest can use")
	f.IntVar(&flags.mtu, "mtu", 0, "MTU of the device in bytes (default: unchanged; 1500 for a new device)")
	f.StringVar(&flags.mac, "mac", "", "MAC address of the host's end of the device (default: unchanged)")
	f.BoolVar(&flags.reopen, "reopen", false, "if the device is deleted, wait for it to come back instead of ending")
	return cmd
}

// configs are what is to be opened for each guest. The error holds all that is wrong.
func (f *tapFlags) configs() ([]tap.Config, error) {
	var errs *multierror.Error
	fail := func(format string, args ...any) { errs = multierror.Append(errs, fmt.Errorf(format, args...)) }
	if len(f.names) != len(f.sockets()) {
		fail("each --socket-path needs a --tap of its own: there are %d and %d", len(f.sockets()), len(f.names))
	}
	if f.given("vlan") && f.vlan == 0 {
		fail("--vlan 0: want 1 to 4094; leave the flag out for frames as they come")
	}
	if f.given("mtu") && f.mtu == 0 {
		fail("--mtu 0: leave the flag out to leave the device's MTU alone")
	}
	mac, err := parseMAC(f.mac)
	errs = multierror.Append(errs, err)
	vlans := tap.VLANs{Access: f.vlan}
	if f.trunk != "" {
		if vlans.Trunk, err = tap.ParseVLANs(f.trunk); err != nil {
			fail("--trunk %q: %w", f.trunk, err)
		}
	}
	var configs []tap.Config
	for i, name := range f.names {
		c := tap.Config{
			Name: name, Queues: f.queues, Bridge: f.bridge, VLANs: vlans, MTU: f.mtu, MAC: mac, Reopen: f.reopen,
		}
		if slices.Contains(f.names[:i], name) {
			fail("--tap %s is given twice: each guest needs its own", name)
		} else if name != "" { // see emptyValues
			errs = multierror.Append(errs, c.Check())
		}
		configs = append(configs, c)
	}
	return configs, errs.ErrorOrNil()
}

// parseMAC reads the address of an Ethernet interface, nil for none.
func parseMAC(text string) (net.HardwareAddr, error) {
	if text == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return nil, fmt.Errorf("--mac %q: want an Ethernet address, as in fe:54:00:12:34:56", text)
	}
	return mac, nil
}

func serveTAP(ctx context.Context, flags *tapFlags, stderr io.Writer) error {
	configs, err := flags.configs()
	if err := wrongUse(flags.check(), err); err != nil {
		return err
	}
	log := flags.begin(stderr)
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
	if hostcaps.HasNetAdmin() {
		flags.administrate(configs, devices)
	}
	flags.needs.TAP, flags.needs.Reopen = true, flags.reopen
	describe := func() { logTAPs(log, configs, devices) }
	return errors.Join(flags.serve(ctx, log, stderr, guests, describe), flags.undoWithoutBroker(devices))
}

// administrate has the broker set up the devices, and undo the changes for them.
func (f *tapFlags) administrate(configs []tap.Config, devices []*tap.Device) {
	f.duties.Configs = configs
	for _, d := range devices {
		f.duties.Changes = append(f.duties.Changes, d.Changes())
		d.Administrate(f.broker)
	}
}

// undoWithoutBroker undoes what was changed for devices that are closed, if no broker came to be that does.
func (f *tapFlags) undoWithoutBroker(devices []*tap.Device) error {
	if f.broker.Started() || !hostcaps.HasNetAdmin() {
		return nil
	}
	var errs []error
	for _, d := range devices {
		changes := d.Changes()
		errs = append(errs, changes.Undo())
	}
	return errors.Join(errs...)
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
	g := guest{name: d.Name(), lost: d.Lost(), cure: "with --reopen vring waits for the device to come back"}
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
