package tap

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Administrator has the right to set up interfaces (CAP_NET_ADMIN), which whoever serves guests should not have. The
// worker's threads ask it, rarely, and wait for it: it answers within half a second.
type Administrator interface {
	// Connect sets up a device that has come back, as Open has done.
	Connect(device string) error
	// SetMTU sets the MTU of a device, in bytes.
	SetMTU(device string, mtu int) error
}

// Connect sets up the device, which exists, as c says. It is what an Administrator does. The changes are to be undone
// after an error, too.
func (c *Config) Connect() (Changes, error) { return connect(c, false) }

// SetMTU sets the MTU of the device. It is what an Administrator does.
func (c *Config) SetMTU(mtu int) error {
	if mtu < minMTU || mtu > maxMTU {
		return fmt.Errorf("MTU %d is not between %d and %d", mtu, minMTU, maxMTU)
	}
	link, err := netlink.LinkByName(c.Name)
	if err != nil {
		return step(err, "ip link show %s", c.Name)
	}
	return step(netlink.LinkSetMTU(link, mtu), "ip link set %s mtu %d", c.Name, mtu)
}

// changeMTU gives the device the MTU that the guest uses: of either side, the other one takes no longer frames.
func (d *Device) changeMTU(mtu int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if mtu == d.MTU() {
		return nil
	}
	if d.cfg.MTU != 0 && mtu > d.cfg.MTU {
		return fmt.Errorf("TAP device %s is to have an MTU of %d at most: start with --mtu %d", d.cfg.Name, d.cfg.MTU, mtu)
	}
	if d.admin == nil {
		return fmt.Errorf("TAP device %s has an MTU of %d, and nobody here may change it: as root, ip link set %s mtu %d",
			d.cfg.Name, d.MTU(), d.cfg.Name, mtu)
	}
	before := d.MTU()
	if err := d.admin.SetMTU(d.cfg.Name, mtu); err != nil {
		return err
	}
	if !d.asked {
		d.asked, d.before = true, before
	}
	d.mtu.Store(int32(mtu))
	return nil
}

// resetMTU gives the device the MTU back that it had before a guest asked for another one.
func (d *Device) resetMTU() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked && d.admin.SetMTU(d.cfg.Name, d.before) == nil {
		d.mtu.Store(int32(d.before))
	}
	d.asked = false
}
