package traffic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Server is the end that is dialled: a TCP port and the UDP port with the same number.
type Server struct {
	tcp  *socket // listens
	udp  *socket
	port int
}

// portTries is how often Listen looks for a number that is free for both protocols.
const portTries = 100

// Listen opens the ports of an address. With port 0 it finds a free one.
func Listen(at netip.AddrPort) (*Server, error) {
	var err error
	for range portTries {
		var s *Server
		if s, err = listen(at); err == nil || at.Port() != 0 {
			return s, err
		}
	}
	return nil, err
}

func listen(at netip.AddrPort) (*Server, error) {
	tcp, err := bind(unix.SOCK_STREAM, at)
	if err != nil {
		return nil, err
	}
	if err := unix.Listen(tcp.fd, backlog); err != nil {
		return nil, errors.Join(os.NewSyscallError("listen", err), tcp.Close())
	}
	port, err := tcp.port()
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	udp, err := bind(unix.SOCK_DGRAM, netip.AddrPortFrom(at.Addr(), uint16(port)))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return &Server{tcp: tcp, udp: udp, port: port}, nil
}

func bind(kind int, at netip.AddrPort) (*socket, error) {
	s, err := newSocket(kind, at.Addr())
	if err != nil {
		return nil, err
	}
	if kind == unix.SOCK_STREAM { // for UDP it would let two servers share a port
		err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err = errors.Join(err, unix.Bind(s.fd, sockaddr(at))); err != nil {
		return nil, errors.Join(fmt.Errorf("bind to %s: %w", at, err), s.Close())
	}
	return s, nil
}

func (s *socket) port() (int, error) {
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return a.Port, nil
	case *unix.SockaddrInet6:
		return a.Port, nil
	}
	return 0, fmt.Errorf("a socket of a strange kind: %T", name)
}

// Port returns the number of both ports.
func (s *Server) Port() int { return s.port }

// Close closes the ports.
func (s *Server) Close() error { return errors.Join(s.tcp.Close(), s.udp.Close()) }

// accept waits for a connection.
func (s *Server) accept() (*socket, error) {
	for {
		fd, _, err := unix.Accept4(s.tcp.fd, unix.SOCK_CLOEXEC)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, os.NewSyscallError("accept", err)
		default:
			conn := &socket{fd: fd}
			if err := conn.setPatience(patience); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return conn, nil
		}
	}
}

// Serve is the server's end of one run. After an error, or if ctx has ended it, the server is of no use any more.
func (s *Server) Serve(ctx context.Context, p Plan, m Meter) (Counts, error) {
	stopTCP, stopUDP := s.tcp.endWith(ctx), s.udp.endWith(ctx)
	defer stopTCP()
	defer stopUDP()
	control, err := s.accept()
	if err != nil {
		return Counts{}, fmt.Errorf("no connection from the client: %w", err)
	}
	defer control.Close()
	defer control.endWith(ctx)()
	if err := control.greeted(); err != nil {
		return Counts{}, fmt.Errorf("the client does not begin: %w", err)
	}
	if err := m.Begin(); err != nil {
		return Counts{}, err
	}
	if err := control.greet(); err != nil {
		return Counts{}, err
	}
	counts, end, err := p.Test.serve(s, control, p)
	if err := cmp.Or(ctx.Err(), err); err != nil {
		return counts, err
	}
	// The client waits for this.
	return counts, errors.Join(m.End(end), control.Close())
}
