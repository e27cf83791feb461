package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/internal/dhcpclient"
)

// dhcpTries is how often the DHCP client sends each message.
const dhcpTries = 20

// dhcp asks for a lease, applies it to the interface and returns it.
func dhcp(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	l, err := agent.BringUp(name)
	if err != nil {
		return nil, err
	}
	if err := waitForRandomness(); err != nil {
		return nil, err
	}
	ack, err := dhcpclient.Ask(dhcpclient.Request{
		Interface: name, MAC: l.Attrs().HardwareAddr, Tries: dhcpTries,
		Options: []dhcpv4.OptionCode{
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU,
			dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionHostName,
		},
	})
	if err != nil {
		return nil, err
	}
	lease := describeLease(ack)
	return lease, applyLease(l, ack, lease)
}

// waitForRandomness waits until the kernel has random numbers, which the DHCP client only asks for again and again. On a processor
// without an instruction for them the kernel collects what it needs while somebody waits.
func waitForRandomness() error {
	_, err := unix.Getrandom(make([]byte, 1), 0)
	return err
}

func describeLease(ack *dhcpv4.DHCPv4) proto.Lease {
	lease := proto.Lease{
		Address:   (&net.IPNet{IP: ack.YourIPAddr, Mask: ack.SubnetMask()}).String(),
		LeaseTime: int(ack.IPAddressLeaseTime(0).Seconds()),
		Domain:    ack.DomainName(),
		HostName:  ack.HostName(),
	}
	if server := ack.ServerIdentifier(); server != nil {
		lease.Server = server.String()
	}
	if routers := ack.Router(); len(routers) > 0 {
		lease.Router = routers[0].String()
	}
	for _, server := range ack.DNS() {
		lease.DNS = append(lease.DNS, server.String())
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil {
		lease.MTU = int(mtu)
	}
	if search := ack.DomainSearch(); search != nil {
		lease.Search = search.Labels
	}
	return lease
}

// applyLease sets address, MTU, default route and resolver.
func applyLease(l netlink.Link, ack *dhcpv4.DHCPv4, lease proto.Lease) error {
	address, err := netlink.ParseAddr(lease.Address)
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(l, address); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if lease.MTU != 0 {
		if err := netlink.LinkSetMTU(l, lease.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", lease.MTU, err)
		}
	}
	for _, r := range ack.ClasslessStaticRoute() { // of those, what is told to be on the link (RFC 3442)
		if r.Router.IsUnspecified() {
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: r.Dest, Scope: netlink.SCOPE_LINK}); err != nil {
				return fmt.Errorf("set route to %s: %w", r.Dest, err)
			}
		}
	}
	if routers := ack.Router(); len(routers) > 0 {
		route := netlink.Route{LinkIndex: l.Attrs().Index, Gw: routers[0]}
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("set default route: %w", err)
		}
	}
	return writeResolvConf(lease)
}

func writeResolvConf(lease proto.Lease) error {
	var text strings.Builder
	for _, server := range lease.DNS {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	if len(lease.Search) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(lease.Search, " "))
	}
	return os.WriteFile("/etc/resolv.conf", []byte(text.String()), 0o644)
}
