package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// A DHCP client sends up to dhcpTries times and waits dhcpWait for each answer. The first answers may be lost: a
// network that was just set up again needs a moment.
const (
	dhcpTries = 20
	dhcpWait  = time.Second
)

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
	ack, err := askForLease(name, l.Attrs().HardwareAddr)
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

// askForLease goes through DISCOVER, OFFER, REQUEST and ACK (RFC 2131, section 3.1).
func askForLease(name string, mac net.HardwareAddr) (*dhcpv4.DHCPv4, error) {
	conn, err := listenDHCP(name)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	discover, err := dhcpv4.NewDiscovery(mac, dhcpv4.WithBroadcast(true), dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU,
		dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionHostName))
	if err != nil {
		return nil, err
	}
	offer, err := exchangeDHCP(conn, discover, dhcpv4.MessageTypeOffer)
	if err != nil {
		return nil, err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithBroadcast(true))
	if err != nil {
		return nil, err
	}
	return exchangeDHCP(conn, request, dhcpv4.MessageTypeAck)
}

// listenDHCP opens the client's port on an interface that has no address yet.
func listenDHCP(name string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.BindToDevice(int(fd), name))
		})
		return errors.Join(err, failed)
	}}
	return config.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", dhcpv4.ClientPort))
}

// exchangeDHCP sends a message until the server answers it with one of the wanted type.
func exchangeDHCP(conn net.PacketConn, m *dhcpv4.DHCPv4, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	server := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ServerPort}
	for range dhcpTries {
		if _, err := conn.WriteTo(m.ToBytes(), server); err != nil {
			return nil, err
		}
		if answer := awaitDHCP(conn, m.TransactionID, want); answer != nil {
			return answer, nil
		}
	}
	return nil, fmt.Errorf("no DHCP %v after %d tries", want, dhcpTries)
}

// awaitDHCP returns the wanted answer, nil if it does not come in time.
func awaitDHCP(conn net.PacketConn, id dhcpv4.TransactionID, want dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	if err := conn.SetReadDeadline(time.Now().Add(dhcpWait)); err != nil {
		return nil
	}
	buf := make([]byte, 4096)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return nil
		}
		answer, err := dhcpv4.FromBytes(buf[:n])
		if err == nil && answer.TransactionID == id && answer.MessageType() == want {
			return answer
		}
	}
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
