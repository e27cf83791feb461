package main

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
)

// card is the guest's only network card, and own the way from one of its programs to another.
const (
	card = "eth0"
	own  = "lo"
)

// timeWait is the file of the number of connections that may be in the state TIME_WAIT, see ip_sysctl of Linux.
const timeWait = "/proc/sys/net/ipv4/tcp_max_tw_buckets"

// configure sets the network card up. A port of a connection that was closed may be used again at once, else a guest that
// makes connections for a minute would run out of ports.
func configure(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	router, err := args.Text(1)
	if err != nil {
		return nil, err
	}
	mtu, err := args.Number(2)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(timeWait, []byte("0"), 0); err != nil {
		return nil, err
	}
	if _, err := agent.BringUp(own); err != nil {
		return nil, err
	}
	return nil, setUp(address, router, mtu)
}

func setUp(address, router string, mtu int) error {
	link, err := agent.FindLink(card)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set MTU %d: %w", mtu, err)
	}
	prefix, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	prefix.Flags = unix.IFA_F_NODAD // of IPv6: nobody else has it, and it is needed at once
	if err := netlink.AddrReplace(link, prefix); err != nil {
		return fmt.Errorf("set address %s: %w", address, err)
	}
	if _, err := agent.BringUp(card); err != nil {
		return err
	}
	route := netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(router)}
	if err := netlink.RouteReplace(&route); err != nil {
		return fmt.Errorf("set router %s: %w", router, err)
	}
	return nil
}
