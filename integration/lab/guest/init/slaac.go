package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/internal/netlinkdump"
)

// slaacWait is how long the kernel may take to find a router and an address that nobody else has.
const slaacWait = 60 * time.Second

// slaac waits until the kernel has configured IPv6 on an interface by what a router has told it, and knows of each address that
// nobody else has it; and returns what the interface has.
func slaac(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	l, err := agent.BringUp(name)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(slaacWait); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		network, err := networkOf(l)
		if err != nil || network.Address != "" && network.Router != "" {
			return network, err
		}
	}
	return nil, errors.New("no router has told of a network")
}

// networkOf returns what an interface has in IPv6; what it has not is empty, and all is as long as it is not certain of an address.
func networkOf(l netlink.Link) (n proto.Network6, err error) {
	addrs, err := netlinkdump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_V6) })
	if err != nil {
		return n, err
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			return proto.Network6{}, nil // the link-local one may come after the other
		}
		if a.IP.IsGlobalUnicast() && a.Flags&unix.IFA_F_PERMANENT == 0 {
			n.Address = a.IPNet.String()
		}
	}
	routes, err := netlinkdump.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(l, netlink.FAMILY_V6) })
	if err != nil {
		return n, err
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.Equal(net.IPv6unspecified) {
			n.Router = r.Gw.String()
		}
	}
	return n, nil
}

// dhcp6 gets an interface that has a link-local address another one by DHCPv6, and returns what it was told.
func dhcp6(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	l, err := agent.FindLink(name)
	if err != nil {
		return nil, err
	}
	client, err := nclient6.New(name)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), slaacWait)
	defer cancel()
	advertisement, err := client.Solicit(ctx)
	if err != nil {
		return nil, fmt.Errorf("solicit: %w", err)
	}
	reply, err := client.Request(ctx, advertisement)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	given := reply.Options.OneIANA()
	if given == nil || given.Options.OneAddress() == nil {
		return nil, errors.New("no address was given")
	}
	address := &net.IPNet{IP: given.Options.OneAddress().IPv6Addr, Mask: net.CIDRMask(64, 128)}
	lease := proto.Lease6{Address: address.String()}
	for _, a := range reply.Options.DNS() {
		lease.DNS = append(lease.DNS, a.String())
	}
	return lease, netlink.AddrAdd(l, &netlink.Addr{IPNet: address, Flags: unix.IFA_F_NODAD})
}
