package multicast

import (
	"golang.org/x/sys/unix"
)

// setting is a socket option with a number.
type setting struct{ level, name, value int }

// openSocket makes a socket of a version of IP with options.
func openSocket(version int, settings []setting) (fd int, err error) {
	domain := unix.AF_INET
	if version == v6 {
		domain = unix.AF_INET6
	}
	if fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	for _, s := range settings {
		if err := unix.SetsockoptInt(fd, s.level, s.name, s.value); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// queueLen bounds what waits in a socket, in bytes: the network may send as much as it likes.
const queueLen = 128 << 10

// common are the options of all sockets of a group. loop tells whether programs of this host hear what is sent.
func common(g Group, version int, loop bool) []setting {
	if version == v6 {
		return []setting{
			{unix.SOL_SOCKET, unix.SO_RCVBUF, queueLen},
			{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, g.hops()},
			looped(version, loop),
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
		}
	}
	return []setting{
		{unix.SOL_SOCKET, unix.SO_RCVBUF, queueLen},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, g.hops()},
		looped(version, loop),
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{unix.IPPROTO_IP, unix.IP_RECVTTL, 1},
	}
}

// looped is the option by which programs of this host hear what is sent, or do not.
func looped(version int, loop bool) setting {
	s := setting{level: unix.IPPROTO_IP, name: unix.IP_MULTICAST_LOOP}
	if version == v6 {
		s = setting{level: unix.IPPROTO_IPV6, name: unix.IPV6_MULTICAST_LOOP}
	}
	if loop {
		s.value = 1
	}
	return s
}

// openMember makes a socket that is a member of a group on the interface index, and bound to the group: it gets nothing that is
// sent to the host itself.
func openMember(g Group, version int, index uint32, loop bool) (fd int, err error) {
	// Other programs of the host are members too.
	settings := append(common(g, version, loop), setting{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
	if version == v4 {
		// Otherwise a member on one interface hears all on which any program is a member.
		settings = append(settings, setting{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0})
	}
	if fd, err = openSocket(version, settings); err != nil {
		return -1, err
	}
	err = unix.Bind(fd, g.sockaddr(version, index)) // in IPv6 this binds to the interface as well
	if err == nil {
		err = join(fd, g, version, index)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func join(fd int, g Group, version int, index uint32) error {
	a := g.Address(version == v6)
	if version == v6 {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_ADD_MEMBERSHIP, &unix.IPv6Mreq{Multiaddr: a.As16(), Interface: index})
	}
	return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: a.As4(), Ifindex: int32(index)})
}
