package bootcheck

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/internal/dhcpclient"
)

// driverDir is that of the card's driver in sysfs, where it can be told to let go of a device and to take it.
const driverDir = "/sys/bus/virtio/drivers/virtio_net"

// How long the guest waits for the driver to find its card, and how often it tries to get a lease: emulated processors are slow.
const (
	cardWait   = 30 * time.Second
	leaseTries = 30
)

// guest is the guest's card.
type guest struct {
	device string // its name on the virtio bus
	link   netlink.Link
	ack    *dhcpv4.DHCPv4
}

// join finds the card and gets a lease for it.
func join() (*guest, error) {
	g := &guest{}
	if err := g.find(); err != nil {
		return nil, err
	}
	return g, g.lease()
}

// find waits for the card.
func (g *guest) find() error {
	for end := time.Now().Add(cardWait); ; time.Sleep(20 * time.Millisecond) {
		devices, err := filepath.Glob(driverDir + "/virtio*/net/*")
		if err != nil {
			return err
		}
		if len(devices) > 0 {
			g.device = filepath.Base(filepath.Dir(filepath.Dir(devices[0])))
			g.link, err = netlink.LinkByName(filepath.Base(devices[0]))
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the driver virtio_net has found no card in %v", cardWait)
		}
	}
}

// lease gets a lease, and sets what it says.
func (g *guest) lease() (err error) {
	if err := netlink.LinkSetUp(g.link); err != nil {
		return err
	}
	g.ack, err = dhcpclient.Ask(dhcpclient.Request{
		Interface: g.link.Attrs().Name, MAC: g.link.Attrs().HardwareAddr, Tries: leaseTries,
		Options: []dhcpv4.OptionCode{dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionInterfaceMTU},
	})
	if err != nil {
		return err
	}
	return g.apply()
}

// apply sets address, MTU and router.
func (g *guest) apply() error {
	address := &netlink.Addr{IPNet: &net.IPNet{IP: g.ack.YourIPAddr, Mask: g.ack.SubnetMask()}}
	if err := netlink.AddrReplace(g.link, address); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, g.ack.Options); err == nil {
		if err := netlink.LinkSetMTU(g.link, int(mtu)); err != nil {
			return fmt.Errorf("set MTU %d: %w", mtu, err)
		}
	}
	routers := g.ack.Router()
	if len(routers) == 0 {
		return errors.New("the lease names no router")
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: g.link.Attrs().Index, Gw: routers[0]})
}

// rebind takes the card from its driver and gives it back, as on a reboot, and gets a lease again.
func (g *guest) rebind() error {
	for _, file := range []string{"unbind", "bind"} {
		if err := os.WriteFile(filepath.Join(driverDir, file), []byte(g.device), 0o200); err != nil {
			return err
		}
	}
	if err := g.find(); err != nil {
		return err
	}
	return g.lease()
}

// describe tells what the guest sees of its card.
func (g *guest) describe() Guest {
	queues, _ := filepath.Glob("/sys/class/net/" + g.link.Attrs().Name + "/queues/rx-*")
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	interrupts, _ := os.ReadFile("/proc/interrupts")
	d := Guest{
		Release: strings.TrimSpace(string(release)), Address: fmt.Sprintf("%v/%d", g.ack.YourIPAddr, maskLength(g.ack)),
		Router: g.ack.Router()[0].String(), QueuePairs: len(queues), Interrupts: interruptsOf(string(interrupts), g.device),
	}
	if link, err := netlink.LinkByIndex(g.link.Attrs().Index); err == nil {
		d.MTU = link.Attrs().MTU
	}
	return d
}

func maskLength(ack *dhcpv4.DHCPv4) int {
	ones, _ := ack.SubnetMask().Size()
	return ones
}

// interruptsOf reads in /proc/interrupts how often those of a device came, by the names that its driver gave them.
func interruptsOf(table, device string) map[string]uint64 {
	counts := map[string]uint64{}
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasPrefix(words[len(words)-1], device) {
			continue
		}
		var sum uint64
		for _, word := range words[1:] {
			n, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				break
			}
			sum += n
		}
		counts[words[len(words)-1]] = sum
	}
	return counts
}
