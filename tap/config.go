package tap

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of an MTU: the least that virtio allows (virtio 1.2 section 5.1.4.1), and the most that an IP packet can have.
const (
	minMTU = 68
	maxMTU = 65535
)

// maxQueues is how many queues the kernel gives a TAP device (MAX_TAP_QUEUES).
const maxQueues = 256

// Config says which TAP device serves a guest, and how it is connected.
type Config struct {
	Name   string           // of the TAP device; it is created if there is none
	Queues int              // queue pairs, at least 1
	Bridge string           // that the device joins, created if there is none; empty for no bridge
	VLANs  VLANs            // of the device as a port of the bridge
	MTU    int              // of the device in bytes; 0 leaves it alone
	MAC    net.HardwareAddr // of the host's end of the device; nil leaves it alone
	// Reopen keeps the Ports waiting for a device that was deleted, until there is one of the same name.
	Reopen bool
}

// Check tells all that is wrong.
func (c *Config) Check() error {
	var faults []error
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := checkName(c.Name); err != nil {
		fail("TAP device %w", err)
	}
	if c.Bridge != "" {
		if err := checkName(c.Bridge); err != nil {
			fail("bridge %w", err)
		}
	}
	if c.Bridge == c.Name && c.Name != "" {
		fail("%s cannot be both the TAP device and the bridge", c.Name)
	}
	if c.VLANs.set() && c.Bridge == "" {
		fail("VLANs are those of a port of a bridge, and there is no bridge")
	}
	if c.VLANs.Access > maxVLAN {
		fail("VLAN %d: want 1 to %d", c.VLANs.Access, maxVLAN)
	}
	if c.Queues < 1 || c.Queues > maxQueues {
		fail("%d queues: want 1 to %d", c.Queues, maxQueues)
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		fail("MTU %d is not between %d and %d", c.MTU, minMTU, maxMTU)
	}
	if c.MAC != nil && (len(c.MAC) != 6 || c.MAC[0]&1 != 0) {
		fail("%v is not the address of one Ethernet interface", c.MAC)
	}
	return errors.Join(faults...)
}

// checkName checks a name as the kernel does (dev_valid_name). A percent sign would have it make up a name.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("without a name")
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("%q: a name has at most %d bytes", name, unix.IFNAMSIZ-1)
	case name == ".", name == "..", strings.ContainsAny(name, "/:% \t\n\v\f\r"):
		return fmt.Errorf("%q: not a name of an interface", name)
	}
	return nil
}
