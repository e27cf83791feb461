package agent

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// linkWait bounds the wait for an interface: a driver that was just loaded needs a moment.
const linkWait = 10 * time.Second

// FindLink waits for an interface.
func FindLink(name string) (netlink.Link, error) {
	for deadline := time.Now().Add(linkWait); ; {
		l, err := netlink.LinkByName(name)
		if err == nil {
			return l, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("interface %s: %w", name, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// BringUp sets an interface up and waits for its carrier.
func BringUp(name string) (netlink.Link, error) {
	l, err := FindLink(name)
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	for deadline := time.Now().Add(linkWait); !Carrier(name); {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("interface %s has no carrier", name)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return l, nil
}

// Carrier tells whether an interface is up and its cable is plugged in.
func Carrier(name string) bool {
	state, err := os.ReadFile("/sys/class/net/" + name + "/carrier")
	return err == nil && strings.TrimSpace(string(state)) == "1"
}
