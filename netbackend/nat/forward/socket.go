package forward

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
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

// Options are how sockets are opened.
type Options struct {
	// Prepare sets options of a socket before the first packet can come. It may be nil.
	Prepare func(fd int, proto uint8, at *ipaddr.Endpoint)
	// KeepFiles reports, when a unix socket is closed, whether its file is left where it is. It may be nil for no.
	KeepFiles func() bool
}

// Listen opens the i-th port of f, or its unix socket. The error is a *BindError if the port or path cannot be had. A unix socket
// is for its owner only: to share it, its mode is changed. What a dead process left at its path is replaced.
func Listen(f *spec.Forward, i uint16, opt Options) (Socket, error) {
	if f.Path != "" {
		fd, file, err := socketfile.Replace(f.Path, socketfile.OwnerOnly(), backlog)
		if err != nil {
			return Socket{}, &BindError{Proto: f.Proto, Path: f.Path, Err: err}
		}
		return Socket{FD: int32(fd), file: file.Unless(opt.KeepFiles)}, nil
	}
	host := netip.AddrPortFrom(f.Host.Addr(), f.Host.Port()+i)
	kind := unix.SOCK_STREAM
	if f.Proto == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	at := ipaddr.EndpointFrom(host)
	fd, err := unix.Socket(at.Addr.Domain(), kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Socket{}, fmt.Errorf("socket for the forward of %s %s: %w", spec.ProtoName(f.Proto), host, err)
	}
	if err := bind(fd, f.Proto, &at, opt); err != nil {
		_ = unix.Close(fd)
		return Socket{}, newBindError(f.Proto, host, err)
	}
	return Socket{FD: int32(fd)}, nil
}

func bind(fd int, proto uint8, at *ipaddr.Endpoint, opt Options) error {
	if !at.Addr.Is4() {
		// 0.0.0.0 and :: are asked for separately, and can both be had.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if opt.Prepare != nil {
		opt.Prepare(fd, proto, at)
	}
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
