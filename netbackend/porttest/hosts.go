package porttest

import (
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// hostOf returns the MAC address of the host that uses a; known tells whether there is one.
func (g *Guest) hostOf(a netip.Addr) (mac [6]byte, known bool) {
	if mac, known = g.Hosts[a]; known {
		return mac, true
	}
	return g.MAC, a == g.IP || a == g.IP6
}

// macOf returns the MAC address of what is sent from a: the guest's own unless a is that of another host.
func (g *Guest) macOf(a netip.Addr) [6]byte {
	mac, _ := g.hostOf(a)
	return mac
}

// checkHost checks that a packet for an address of the guest goes to the host that uses the address. With one host there is
// nothing to check: it takes what comes.
func (g *Guest) checkHost(f *Frame) error {
	mac, known := g.hostOf(f.Dst)
	if len(g.Hosts) == 0 || !known {
		return nil
	}
	if to := [6]byte([]byte(header.Ethernet(f.Bytes).DestinationAddress())); to != mac {
		return fmt.Errorf("a packet for %s goes to %x instead of %x", f.Dst, to, mac)
	}
	return nil
}
