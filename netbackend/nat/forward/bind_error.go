package forward

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// BindError tells that a port or a path of the host could not be had for a forward.
type BindError struct {
	Proto     uint8          // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	Path      string         // of a unix socket; empty for a port
	Host      netip.AddrPort // what was asked for
	Interface string         // that the port was to be of, "" for any
	Holder    string         // name and number of the process that has it, "" if that is not known
	Err       error          // of bind(2) or listen(2)
}

func newBindError(proto uint8, host netip.AddrPort, err error) *BindError {
	e := &BindError{Proto: proto, Host: host, Err: err}
	if errors.Is(err, unix.EADDRINUSE) {
		e.Holder = holder(proto, host)
	}
	return e
}

// Error says what failed, and what can be done about it.
func (e *BindError) Error() string {
	if e.Path != "" {
		return fmt.Sprintf("forward of the socket %s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("forward of %s %s: %s", spec.ProtoName(e.Proto), e.Host, e.reason())
}

func (e *BindError) reason() string {
	switch {
	case errors.Is(e.Err, unix.ENODEV):
		return fmt.Sprintf("the host has no interface %s", e.Interface)
	case errors.Is(e.Err, unix.EADDRINUSE) && e.Holder != "":
		return fmt.Sprintf("%s has the port; choose another host port, or end it", e.Holder)
	case errors.Is(e.Err, unix.EADDRINUSE):
		return "another program has the port; choose another host port, or end it"
	case errors.Is(e.Err, unix.EACCES):
		return "this port needs CAP_NET_BIND_SERVICE; choose a host port from 1024 on"
	case errors.Is(e.Err, unix.EADDRNOTAVAIL):
		return fmt.Sprintf("%s is not an address of this host", e.Host.Addr())
	}
	return e.Err.Error()
}

// IsElsewhere reports whether an error is that the port of a forward is somebody else's, or not for this process. With spec.Binding.IfFree such a
// port is left out.
func IsElsewhere(err error) bool {
	for _, reason := range []error{unix.EADDRINUSE, unix.EADDRNOTAVAIL, unix.EACCES, unix.EPERM, unix.EAFNOSUPPORT} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// Unwrap returns the error of the system call.
func (e *BindError) Unwrap() error { return e.Err }
