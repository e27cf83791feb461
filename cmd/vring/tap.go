package main

import (
	"fmt"
	"log/slog"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/daemon"
)

// tapFlags are the flags of "vring tap", as text.
type tapFlags struct {
	serveFlags
	names  []string
	bridge string
	vlanFlags
	queues int
	mtu    int
	reopen bool
}

// newTAP is "vring tap".
func newTAP() *cobra.Command { return tapCommand().cmd }

// tapCommand is newTAP with its flags.
func tapCommand() *networkCommand {
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
			return flags.serve(cmd.Context(), flags.whole)
		},
	}
	flags.serveFlags.add(cmd)
	flags.queuesHint = queuesHint
	f := cmd.Flags()
	f.StringArrayVar(&flags.names, "tap", nil, "TAP device of the host (repeatable: one for each --socket-path)")
	f.StringVar(&flags.bridge, "bridge", "", "bridge that the device joins")
	flags.vlanFlags.add(f, "VLAN of the guest's untagged frames on the bridge, 1 to 4094",
		"VLANs of the bridge whose frames reach the guest with their tags, as in 20,30-39",
		"MAC address of the host's end of the device (default: unchanged)")
	f.IntVar(&flags.queues, "queues", 1, "number of queue pairs that the guest can use")
	f.IntVar(&flags.mtu, "mtu", 0, "MTU of the device in bytes (default: unchanged; 1500 for a new device)")
	f.BoolVar(&flags.reopen, "reopen", false, "if the device is deleted, wait for it to come back instead of ending")
	return &networkCommand{cmd, flags.whole}
}

// config turns the flags into a configuration. The error holds all that cannot be read.
func (f *tapFlags) config() (*daemon.TAP, error) {
	var errs *multierror.Error
	fail := func(format string, args ...any) { errs = multierror.Append(errs, fmt.Errorf(format, args...)) }
	if f.given("vlan") && f.vlan == 0 {
		fail("--vlan 0: want 1 to 4094; leave the flag out for frames as they come")
	}
	if f.given("mtu") && f.mtu == 0 {
		fail("--mtu 0: leave the flag out to leave the device's MTU alone")
	}
	vlans, mac, err := f.vlanFlags.read()
	c := daemon.TAP{Devices: f.names, Bridge: f.bridge, VLANs: vlans, Queues: f.queues, MTU: f.mtu, MAC: mac, Reopen: f.reopen}
	return &c, multierror.Append(errs, err).ErrorOrNil()
}

// whole is the configuration that the flags say. The error holds all that cannot be read.
func (f *tapFlags) whole() (daemon.Config, error) {
	c, unread := f.serveFlags.config()
	network, unreadNetwork := f.config()
	c.TAP = network
	return c, multierror.Append(nil, unread, unreadNetwork).ErrorOrNil()
}

// logTAPs logs what the guests' devices are.
func logTAPs(log *slog.Logger, guests []daemon.Network) {
	for _, g := range guests {
		log.Info("network", "tap", g.TAP.Name, "bridge", g.TAP.Bridge, "mtu", g.TAP.MTU, "queues", g.TAP.Queues)
	}
}
