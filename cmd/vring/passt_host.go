package main

import (
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/netlinkdump"
	"github.com/vringnet/vring/internal/passtopt"
)

// passtHost is what passt takes from the host.
func passtHost() passtopt.Host {
	h := passtopt.Host{
		Link: hostLink,
		HasInterface: func(name string) bool {
			_, err := net.InterfaceByName(name)
			return err == nil
		},
		User: func(name string) (uid, gid int, ok bool) {
			u, err := user.Lookup(name)
			if err != nil {
				return 0, 0, false
			}
			uid, errUID := strconv.Atoi(u.Uid)
			gid, errGID := strconv.Atoi(u.Gid)
			return uid, gid, errUID == nil && errGID == nil
		},
		Group: func(name string) (gid int, ok bool) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return 0, false
			}
			gid, err = strconv.Atoi(g.Gid)
			return gid, err == nil
		},
	}
	if c, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil {
		for _, text := range c.Servers {
			if a, err := netip.ParseAddr(text); err == nil {
				h.Resolvers = append(h.Resolvers, a.WithZone(""))
			}
		}
		h.Search = c.Search
	}
	h.FirstLocal, h.LastLocal = localPorts()
	h.Addresses = hostAddresses()
	return h
}

// localPorts are those from which the kernel gives one to a socket that asks for any.
func localPorts() (first, last uint16) {
	first, last = 49152, 65535 // RFC 6335
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if fields := strings.Fields(string(text)); err == nil && len(fields) == 2 {
		a, errA := strconv.ParseUint(fields[0], 10, 16)
		b, errB := strconv.ParseUint(fields[1], 10, 16)
		if errA == nil && errB == nil {
			return uint16(a), uint16(b)
		}
	}
	return first, last
}

// hostAddresses are the host's, but those of loopback and of links.
func hostAddresses() (all []netip.Addr) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			all = append(all, p.Addr())
		}
	}
	return all
}

// hostLink returns an interface by its name, or that of the default route.
func hostLink(is4 bool, name string) (l passtopt.Link, ok bool) {
	family := netlink.FAMILY_V6
	if is4 {
		family = netlink.FAMILY_V4
	}
	link, gateway := linkOf(family, name)
	if link == nil {
		return l, false
	}
	l.Name, l.Gateway = link.Attrs().Name, gateway
	addrs, err := netlinkdump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
	if err != nil {
		return l, false
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		switch ip = ip.Unmap(); {
		case ip.IsLinkLocalUnicast() && ip.Is6():
			l.LinkLocal = ip
		case a.Scope == unix.RT_SCOPE_UNIVERSE && !l.Address.IsValid():
			l.Address = netip.PrefixFrom(ip, bits)
		}
	}
	return l, l.Address.IsValid()
}

// linkOf returns an interface and the router of the default route by it, nil if there is none.
func linkOf(family int, name string) (netlink.Link, netip.Addr) {
	routes, err := netlinkdump.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	if err != nil {
		return nil, netip.Addr{}
	}
	for _, r := range routes {
		if r.Dst != nil && !isDefault(r.Dst) || len(r.Gw) == 0 {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || name != "" && link.Attrs().Name != name {
			continue
		}
		gateway, _ := netip.AddrFromSlice(r.Gw)
		return link, gateway.Unmap()
	}
	if name == "" {
		return nil, netip.Addr{}
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, netip.Addr{}
	}
	return link, netip.Addr{}
}

// isDefault reports whether a network is that of the default route.
func isDefault(n *net.IPNet) bool {
	ones, _ := n.Mask.Size()
	return ones == 0
}
