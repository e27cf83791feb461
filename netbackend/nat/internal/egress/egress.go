package egress

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Error is why a socket cannot be bound.
type Error struct {
	Errno unix.Errno // of a connect that fails so, for whoever wants to connect
	Cause unix.Errno // what the kernel has said
	What  string     // which interface or address
}

// Error implements error.
func (e *Error) Error() string { return e.What + ": " + e.Cause.Error() }

// ErrnoOf is the error number of a connect that fails as binding has.
func ErrnoOf(err error) unix.Errno {
	if failed, ok := err.(*Error); ok {
		return failed.Errno
	}
	return unix.ENETUNREACH
}

// Binds reports whether Bind does something to sockets for to's version of IP. w may be nil.
func Binds(w *spec.Way, v4 bool) bool {
	return w != nil && (interfaceOf(w, v4) != "" || addressOf(w, v4).IsValid())
}

// Bind binds fd, a socket for IPv4 (v4) or IPv6 that is neither bound nor connected, as w says; w may be nil. After an error fd is of no
// use: whoever connects it all the same would lead traffic where it may not go.
func Bind(fd int, v4 bool, w *spec.Way) error {
	if w == nil {
		return nil
	}
	if name := interfaceOf(w, v4); name != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name); err != nil {
			return failure("interface "+name, err)
		}
	}
	a := addressOf(w, v4)
	if !a.IsValid() {
		return nil
	}
	// The port is chosen with the destination, when the socket is connected: so one can be used for many destinations (ip(7)).
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, sockaddr(a)); err != nil {
		return failure("address "+a.String(), err)
	}
	return nil
}

// IsOrphan reports whether a socket is bound to an interface that is gone. One of the same name that has come since is another one.
func IsOrphan(fd int) bool {
	_, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	return err == unix.ENODEV
}

func failure(what string, err error) error {
	cause, _ := err.(unix.Errno)
	errno := unix.ENETUNREACH // no interface, or no such address of the host: as without a route
	if cause == unix.EPERM || cause == unix.EACCES {
		errno = unix.EACCES
	}
	return &Error{errno, cause, what}
}

func interfaceOf(w *spec.Way, v4 bool) string {
	if v4 {
		return w.Interface4
	}
	return w.Interface6
}

func addressOf(w *spec.Way, v4 bool) netip.Addr {
	if v4 {
		return w.Address4
	}
	return w.Address6
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}
