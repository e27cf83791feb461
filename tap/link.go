package tap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/netlinkdump"
)

// bridgeMark is the alias (ip link show) of a bridge that was created here, so that the last of several processes that
// use it can tell that it is not the user's.
const bridgeMark = "made by vring"

// Changes are what was changed on the host and has to be undone: a TAP device that was created goes away with its file
// descriptors, all the rest stays. It is plain data: another process can undo them.
type Changes struct {
	TAP    string
	Index  int       // of the device: another one may get its name
	Was    *Settings // of a device that was there before, nil for one that was created
	Bridge string    // that the device joined; to be removed with its last port if this program made it
}

// Check returns why these cannot be changes that were made here.
func (c *Changes) Check() error {
	if err := checkName(c.TAP); err != nil {
		return fmt.Errorf("TAP device %w", err)
	}
	if c.Bridge != "" {
		if err := checkName(c.Bridge); err != nil {
			return fmt.Errorf("bridge %w", err)
		}
	}
	if c.Index <= 0 {
		return fmt.Errorf("TAP device %s: no interface has the index %d", c.TAP, c.Index)
	}
	if c.Was == nil {
		return nil
	}
	return c.Was.check(c.TAP)
}

// check returns why these cannot be settings of a TAP device.
func (s *Settings) check(device string) error {
	switch {
	case s.MTU < 0 || s.MTU > maxMTU:
		return fmt.Errorf("TAP device %s: MTU %d is not between 0 and %d", device, s.MTU, maxMTU)
	case len(s.MAC) != 0 && len(s.MAC) != 6:
		return fmt.Errorf("TAP device %s: %v is not an address of Ethernet", device, s.MAC)
	case s.Master < 0:
		return fmt.Errorf("TAP device %s: no bridge has the index %d", device, s.Master)
	}
	for vlan := range s.VLANs {
		if vlan > maxVLAN {
			return fmt.Errorf("TAP device %s: VLAN %d: want 0 to %d", device, vlan, maxVLAN)
		}
	}
	return nil
}

// Settings are those of an interface that may be changed here.
type Settings struct {
	MTU    int
	MAC    net.HardwareAddr
	Up     bool
	Master int // index of the bridge, 0 for none
	// VLANs are those of the port, if they were changed on the same bridge.
	VLANs map[uint16]uint16
}

func settingsOf(link netlink.Link) *Settings {
	a := link.Attrs()
	return &Settings{MTU: a.MTU, MAC: a.HardwareAddr, Up: a.Flags&net.FlagUp != 0, Master: a.MasterIndex}
}

// stepError is a change that failed.
type stepError struct {
	command string // of ip(8) that does the same
	err     error
}

func (e *stepError) Error() string { return fmt.Sprintf("%s: %v", e.command, e.err) }
func (e *stepError) Unwrap() error { return e.err }

// step names the ip(8) command whose work err is of.
func step(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &stepError{fmt.Sprintf(format, args...), err}
}

// connect sets up the device and its bridge as cfg asks, and returns what is to be undone, after an error too. What is
// as it should be already is not touched: that needs no rights.
func connect(cfg *Config, created bool) (changes Changes, err error) {
	link, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return changes, step(err, "ip link show %s", cfg.Name)
	}
	was := settingsOf(link)
	changes.TAP, changes.Index = cfg.Name, link.Attrs().Index
	if !created {
		changes.Was = was
	}
	mac := cfg.MAC
	if mac == nil && created {
		mac = highMAC(was.MAC)
	}
	if mac != nil && !bytes.Equal(mac, was.MAC) {
		if err := step(netlink.LinkSetHardwareAddr(link, mac), "ip link set %s address %v", cfg.Name, mac); err != nil {
			return changes, err
		}
	}
	if cfg.MTU != 0 && cfg.MTU != was.MTU {
		if err := step(netlink.LinkSetMTU(link, cfg.MTU), "ip link set %s mtu %d", cfg.Name, cfg.MTU); err != nil {
			return changes, err
		}
	}
	if err := joinBridge(cfg, link, was, &changes); err != nil {
		return changes, err
	}
	if was.Up {
		return changes, nil
	}
	return changes, step(netlink.LinkSetUp(link), "ip link set %s up", cfg.Name)
}

// highMAC makes a MAC address of ours from a random one: a bridge takes on the lowest of its ports', and should keep that
// of its uplink when guests come and go.
func highMAC(random net.HardwareAddr) net.HardwareAddr {
	mac := bytes.Clone(random)
	mac[0] = 0xfe
	return mac
}

// tries is how often something is tried again that others undo meanwhile.
const tries = 10

// joinBridge makes the device a port of the bridge. Others make and remove bridges, too: if it was removed after it was
// found, another look follows.
func joinBridge(cfg *Config, link netlink.Link, was *Settings, changes *Changes) error {
	if cfg.Bridge == "" {
		return nil
	}
	defer lock(cfg.Bridge)()
	changes.Bridge = cfg.Bridge
	for try := 1; ; try++ {
		bridge, err := findBridge(cfg)
		if err != nil {
			return err
		}
		err = becomePort(cfg, link, bridge, was)
		if err == nil || try == tries || isThere(bridge) {
			return err
		}
	}
}

// isThere tells whether an interface was not removed meanwhile.
func isThere(link netlink.Link) bool {
	_, err := netlink.LinkByIndex(link.Attrs().Index)
	return err == nil
}

// becomePort makes the device a port of a bridge that was found.
func becomePort(cfg *Config, link netlink.Link, bridge *netlink.Bridge, was *Settings) error {
	if was.Master == bridge.Attrs().Index {
		return changeVLANs(cfg, link, was)
	}
	if err := step(netlink.LinkSetMaster(link, bridge), "ip link set %s master %s", cfg.Name, cfg.Bridge); err != nil {
		return err
	}
	if !cfg.VLANs.set() {
		return nil
	}
	return cfg.VLANs.filter().apply(link)
}

// changeVLANs changes those of a device that was a port of the bridge already.
func changeVLANs(cfg *Config, link netlink.Link, was *Settings) error {
	if !cfg.VLANs.set() {
		return nil
	}
	now, err := filterOf(link)
	if err != nil || maps.Equal(now, cfg.VLANs.filter()) {
		return err
	}
	was.VLANs = now
	return cfg.VLANs.filter().apply(link)
}

// findBridge returns the bridge, which is created and set up if there is none. If somebody else creates it at the same
// time, that one is it.
func findBridge(cfg *Config) (*netlink.Bridge, error) {
	link, err := netlink.LinkByName(cfg.Bridge)
	for try := 1; isMissing(err) && try <= tries; try++ {
		bridge, failed := makeBridge(cfg)
		if !errors.Is(failed, unix.EEXIST) {
			return bridge, failed
		}
		if link, err = netlink.LinkByName(cfg.Bridge); isMissing(err) {
			time.Sleep(time.Duration(try) * time.Millisecond) // out of step with whoever makes and removes it
		}
	}
	if err != nil {
		return nil, step(err, "ip link show %s", cfg.Bridge)
	}
	bridge, ok := link.(*netlink.Bridge)
	if !ok {
		return nil, fmt.Errorf("%s is an interface already, of type %s and not a bridge", cfg.Bridge, link.Type())
	}
	return bridge, checkFiltering(cfg, bridge)
}

// isMissing tells whether there is no interface of a name that was looked for.
func isMissing(err error) bool {
	missing := netlink.LinkNotFoundError{}
	return errors.As(err, &missing)
}

func makeBridge(cfg *Config) (*netlink.Bridge, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = cfg.Bridge
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if cfg.VLANs.set() {
		filtering := true
		bridge.VlanFiltering = &filtering
	}
	if err := noFiltering(cfg, netlink.LinkAdd(bridge)); err != nil {
		return nil, step(err, "ip link add %s type bridge", cfg.Bridge)
	}
	err := errors.Join(
		step(netlink.LinkSetAlias(bridge, bridgeMark), "ip link set %s alias %q", cfg.Bridge, bridgeMark),
		step(netlink.LinkSetUp(bridge), "ip link set %s up", cfg.Bridge))
	if err != nil {
		return nil, errors.Join(err, netlink.LinkDel(bridge))
	}
	bridge.Alias = bridgeMark
	return bridge, nil
}

// Undo leaves the host as it was before. What is not there any more needs nothing. Call it when the device is closed: one
// that was created is then waited for to go, since it is a port of the bridge.
func (c *Changes) Undo() error {
	const patience, pause = 5 * time.Second, 10 * time.Millisecond
	for deadline := time.Now().Add(patience); c.Was == nil && c.link() != nil && time.Now().Before(deadline); {
		time.Sleep(pause)
	}
	return errors.Join(c.restore(), c.removeBridge())
}

// link is the device, nil if it is not there any more.
func (c *Changes) link() netlink.Link {
	link, err := netlink.LinkByName(c.TAP)
	if err != nil || link.Attrs().Index != c.Index {
		return nil
	}
	return link
}

// restore gives the device its settings back, if it is still the same one.
func (c *Changes) restore() error {
	link := c.link()
	if c.Was == nil || link == nil {
		return nil
	}
	now, was := settingsOf(link), c.Was
	var err error
	if now.Master != was.Master {
		err = step(netlink.LinkSetMasterByIndex(link, was.Master), "restore the bridge of %s", c.TAP)
	}
	if was.VLANs != nil {
		err = errors.Join(err, filter(was.VLANs).apply(link))
	}
	if now.MTU != was.MTU {
		err = errors.Join(err, step(netlink.LinkSetMTU(link, was.MTU), "ip link set %s mtu %d", c.TAP, was.MTU))
	}
	if !bytes.Equal(now.MAC, was.MAC) {
		err = errors.Join(err, step(netlink.LinkSetHardwareAddr(link, was.MAC), "ip link set %s address %v", c.TAP, was.MAC))
	}
	if now.Up && !was.Up {
		err = errors.Join(err, step(netlink.LinkSetDown(link), "ip link set %s down", c.TAP))
	}
	return err
}

// removeBridge removes a bridge that was made here, unless somebody else uses it.
func (c *Changes) removeBridge() error {
	if c.Bridge == "" {
		return nil
	}
	defer lock(c.Bridge)()
	bridge, err := netlink.LinkByName(c.Bridge)
	if err != nil || bridge.Type() != "bridge" || bridge.Attrs().Alias != bridgeMark {
		return nil
	}
	links, err := netlinkdump.Whole(netlink.LinkList)
	if err != nil {
		return step(err, "ip link show")
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			return nil
		}
	}
	return step(netlink.LinkDel(bridge), "ip link del %s", c.Bridge)
}
