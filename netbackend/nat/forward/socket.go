package forward

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// backlog is how many connections the kernel keeps for a socket. It cuts this to its own limit (net.core.somaxconn).
const backlog = 1024

// Socket is a port or a unix socket of the host that somebody listens on. Its owner closes it.
type Socket struct {
	FD   int32
	file socketfile.File // of a unix socket
}

// Listen opens the i-th port of f, or its unix socket. The error is a *BindError if the port or path cannot be had. A unix socket
// is for its owner only: to share it, its mode is changed. What a dead process left at its path is replaced.
//
// keepFiles reports, when a unix socket is closed, whether its file is left where it is. It may be nil for no.
func Listen(f *spec.Forward, i uint16, keepFiles func() bool) (Socket, error) {
	if f.Path == "" {
		fd, err := listenPort(f, i)
		return Socket{FD: int32(fd)}, err
	}
	fd, file, err := socketfile.Replace(f.Path, socketfile.OwnerOnly(), backlog)
	if err != nil {
		return Socket{}, &BindError{Proto: f.Proto, Path: f.Path, Err: err}
	}
	return Socket{FD: int32(fd), file: file.Unless(keepFiles)}, nil
}

// ListenAtOnce is Listen for a forward of one port, by a process that hands the socket to another one and waits for nobody. The
// descriptor and the file of a unix socket are the caller's to close and to remove.
func ListenAtOnce(f *spec.Forward) (fd int, file socketfile.File, err error) {
	if f.Path == "" {
		fd, err = listenPort(f, 0)
		return fd, socketfile.File{}, err
	}
	fd, file, err = socketfile.ReplaceAtOnce(f.Path, socketfile.OwnerOnly(), backlog)
	if err != nil {
		return -1, file, &BindError{Proto: f.Proto, Path: f.Path, Err: err}
	}
	return fd, file, nil
}

// Opened returns the socket fd, which another process has opened by ListenAtOnce. It is the Socket's from now on; its file stays that
// process's.
func Opened(fd int) Socket { return Socket{FD: int32(fd)} }

// listenPort opens the i-th port of f.
func listenPort(f *spec.Forward, i uint16) (fd int, err error) {
	host := netip.AddrPortFrom(f.Host.Addr(), f.Host.Port()+i)
	kind := unix.SOCK_STREAM
	if f.Proto == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	at := ipaddr.EndpointFrom(host)
	fd, err = unix.Socket(at.Addr.Domain(), kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket for the forward of %s %s: %w", spec.ProtoName(f.Proto), host, err)
	}
	if err := bind(fd, f.Proto, &at, &f.Binding); err != nil {
		_ = unix.Close(fd)
		e := newBindError(f.Proto, host, err)
		e.Interface = f.Binding.Interface
		return -1, e
	}
	return fd, nil
}

func bind(fd int, proto uint8, at *ipaddr.Endpoint, how *spec.Binding) error {
	if how.Interface != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, how.Interface); err != nil {
			return err
		}
	}
	if how.Freebind {
		if err := setFreebind(fd, at); err != nil {
			return err
		}
	}
	if !at.Addr.Is4() {
		// 0.0.0.0 and :: are asked for separately, and can both be had.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	prepare(fd, proto, at)
	if proto == unix.IPPROTO_UDP {
		return unix.Bind(fd, at.Sockaddr())
	}
	// Without it, a restart would have to wait for connections of the run before to time out.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, at.Sockaddr()); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

// setFreebind lets a socket be bound to an address that the host does not have.
func setFreebind(fd int, at *ipaddr.Endpoint) error {
	if at.Addr.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
}

// prepare sets what must be set before the first packet can come.
func prepare(fd int, proto uint8, at *ipaddr.Endpoint) {
	if proto != unix.IPPROTO_UDP {
		hostsock.ReadInline(fd) // so are the connections, from their first byte on
		return
	}
	hostsock.KeepErrors(&at.Addr, fd, 1)
	if a := at.Addr.Netip(); a.IsUnspecified() {
		hostsock.WantAsked(&at.Addr, fd)
	}
}

// AsksWays reports whether the kernel tells to which address and by which interface datagrams come: Listen asks for that where a UDP
// port is bound to all addresses.
func (s *Socket) AsksWays() bool { return hostsock.IsAsked(int(s.FD)) }

// Close gives the port or the path back.
func (s *Socket) Close() {
	_ = s.file.Remove()
	_ = unix.Close(int(s.FD))
}

// Pause makes a TCP port refuse connections; it stays bound. While nobody listens on it, others could bind it as well if both
// said SO_REUSEADDR, so that is taken back.
func (s *Socket) Pause() {
	_ = unix.Shutdown(int(s.FD), unix.SHUT_RD)
	_ = unix.SetsockoptInt(int(s.FD), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// Resume makes a paused port take connections again. Those of before do not hinder that, for they are of a time when
// SO_REUSEADDR was set. It is two steps: what is to be true before the first client can come is done by ready, in between.
func (s *Socket) Resume(ready func()) error {
	if err := unix.SetsockoptInt(int(s.FD), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	ready()
	return unix.Listen(int(s.FD), backlog)
}
