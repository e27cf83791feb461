package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long one call may block before the test counts as broken.
const patience = 30 * time.Second

// backlog is how many connections may wait for a server.
const backlog = 128

// socket is a socket whose calls block in the kernel. Reading and writing is for one goroutine each; shut may be called by
// any.
type socket struct {
	fd int

	mu     sync.Mutex
	closed bool
}

// newSocket makes a socket of a kind, unix.SOCK_STREAM or unix.SOCK_DGRAM, for addresses of a's version of IP.
func newSocket(kind int, a netip.Addr) (*socket, error) {
	domain := unix.AF_INET
	if a.Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd: fd}
	if err := s.setPatience(patience); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// setPatience sets how long a call may block.
func (s *socket) setPatience(d time.Duration) error {
	t := unix.NsecToTimeval(d.Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, option, &t); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// noDelay sends small segments at once.
func (s *socket) noDelay() error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// dial connects a socket of a kind.
func dial(kind int, to netip.AddrPort) (*socket, error) {
	s, err := newSocket(kind, to.Addr())
	if err != nil {
		return nil, err
	}
	if err := retry(func() error { return unix.Connect(s.fd, sockaddr(to)) }); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", to, err), s.Close())
	}
	return s, nil
}

// retry repeats a call that a signal has interrupted; the runtime uses signals.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Read implements io.Reader.
func (s *socket) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write implements io.Writer.
func (s *socket) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Write(s.fd, b[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, os.NewSyscallError("write", err)
		}
		done += n
	}
	return done, nil
}

// CloseWrite sends the end of stream.
func (s *socket) CloseWrite() error {
	return os.NewSyscallError("shutdown", unix.Shutdown(s.fd, unix.SHUT_WR))
}

// Close may be called more than once.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return os.NewSyscallError("close", unix.Close(s.fd))
}

// shut makes calls that block return.
func (s *socket) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	}
}

// endWith makes calls on a socket end with ctx. stop ends that.
func (s *socket) endWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, s.shut)
}

// timedOut tells whether a call has blocked for as long as the socket's patience.
func timedOut(err error) bool { return errors.Is(err, unix.EAGAIN) }
