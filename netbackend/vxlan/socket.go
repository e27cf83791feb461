package vxlan

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// receiveBuffer is how many bytes the socket shall hold of what comes; the kernel may give less (net.core.rmem_max).
const receiveBuffer = 4 << 20

// open opens the socket.
func (c *Config) open() (fd int, err error) {
	family, any := unix.AF_INET6, netip.IPv6Unspecified()
	if c.Remotes[0].Addr().Is4() {
		family, any = unix.AF_INET, netip.IPv4Unspecified()
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := setUp(fd, family); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	at := c.Local
	if !at.Addr().IsValid() {
		at = netip.AddrPortFrom(any, at.Port())
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		return -1, errors.Join(fmt.Errorf("UDP port %s: %w", at, err), unix.Close(fd))
	}
	return fd, nil
}

// setUp keeps the kernel from making fragments.
func setUp(fd, family int) error {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	if family == unix.AF_INET {
		return os.NewSyscallError("IP_MTU_DISCOVER", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO))
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return os.NewSyscallError("IPV6_V6ONLY", err)
	}
	return os.NewSyscallError("IPV6_MTU_DISCOVER", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// paths is a socket that sends nothing: it is connected to one remote switch after the other, to know the ways there.
type paths struct{ fd int }

func (c *Config) openPaths() (paths, error) {
	family := unix.AF_INET6
	if c.Remotes[0].Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return paths{fd}, os.NewSyscallError("socket", err)
}

func (p paths) close() error { return unix.Close(p.fd) }

// mtu returns the MTU in bytes of the way to an address, as far as the kernel knows: what the route says, and routers have told since.
func (p paths) mtu(to netip.AddrPort) (int, error) {
	level, name := unix.IPPROTO_IPV6, unix.IPV6_MTU
	if to.Addr().Is4() {
		level, name = unix.IPPROTO_IP, unix.IP_MTU
	}
	if err := unix.Connect(p.fd, sockaddr(to)); err != nil {
		return 0, fmt.Errorf("no way to %s: %w", to.Addr(), err)
	}
	mtu, err := unix.GetsockoptInt(p.fd, level, name)
	return mtu, os.NewSyscallError("MTU", err)
}

// least is the smallest MTU of the ways to all remote switches. Ways that there are not do not count; the error is that there is none.
func (p paths) least(c *Config) (least int, err error) {
	for _, r := range c.Remotes {
		mtu, failed := p.mtu(r)
		switch {
		case failed != nil:
			err = failed
		case least == 0 || mtu < least:
			least = mtu
		}
	}
	if least > 0 {
		return least, nil
	}
	return 0, err
}

// InnerMTU is the MTU in bytes that hosts on the switch can have, for all their frames to reach all remote switches, as far as the kernel knows
// the ways there now.
func (c *Config) InnerMTU() (int, error) {
	p, err := c.openPaths()
	if err != nil {
		return 0, err
	}
	defer p.close()
	mtu, err := p.least(c)
	return max(0, mtu-c.Overhead()), err
}
