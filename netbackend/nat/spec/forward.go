package spec

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vringnet/vring/internal/socketfile"
)

// Forward opens ports of the host, or a unix socket, that lead to ports of the guest.
type Forward struct {
	Proto uint8          // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	Path  string         // of a unix socket, for which the guest's side is TCP; empty for ports
	Host  netip.AddrPort // first of the host's ports, and the address that it is bound to
	Guest netip.AddrPort // first of the guest's ports; the zero Addr means the guest's address
	Count uint16         // number of ports
	Gate  bool           // the host's ports refuse connections while the guest's do
	// AcceptProxy takes a PROXY header from each client in front of its stream, and believes what it tells: only proxies
	// may have a way to the port or socket.
	AcceptProxy bool
	SendProxy   uint8 // version of the PROXY header that the guest gets in front of each client's stream, 0 for none
	Binding     Binding
}

// Binding is how a forward's ports are bound, beside their address.
type Binding struct {
	Interface string // by which clients come; "" is any
	IfFree    bool   // ports that cannot be had are left out, if one can
	Freebind  bool   // the host need not have the address yet
}

// String returns f as ParseForward reads it.
func (f Forward) String() string {
	guest := portRange(f.Guest.Port(), f.Count)
	if f.Guest.Addr().IsValid() {
		guest = bracketed(f.Guest.Addr()) + ":" + guest
	}
	if f.Path != "" {
		return f.options() + unixPrefix + f.Path + ":" + guest
	}
	address := bracketed(f.Host.Addr())
	if f.Binding.Interface != "" {
		address += interfaceMark + f.Binding.Interface
	}
	host := portRange(f.Host.Port(), f.Count)
	return f.options() + fmt.Sprintf("%s:%s:%s:%s", ProtoName(f.Proto), address, host, guest)
}

// Ports yields f port by port: forwards of one port each that lead where f leads. A unix socket is one by itself.
func (f Forward) Ports() iter.Seq[Forward] {
	return func(yield func(Forward) bool) {
		for i := range f.Count {
			one := f
			one.Count = 1
			one.Guest = netip.AddrPortFrom(f.Guest.Addr(), f.Guest.Port()+i)
			if f.Path == "" {
				one.Host = netip.AddrPortFrom(f.Host.Addr(), f.Host.Port()+i)
			}
			if !yield(one) {
				return
			}
		}
	}
}

// bracketed is an address in front of a port.
func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

func portRange(first, count uint16) string {
	if count == 1 {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, first+count-1)
}

// HostSide is what two forwards of one port have in common that may want the same of the host.
type HostSide struct {
	Proto uint8
	Port  uint16 // of the host
	Path  string // as CleanPath
}

// Side returns the HostSide of a forward of one port, or of a unix socket.
func (f *Forward) Side() HostSide { return HostSide{f.Proto, f.Host.Port(), f.CleanPath()} }

// CleanPath returns the shortest path that is the same as Path by its text, "" for ports.
func (f *Forward) CleanPath() string {
	if f.Path == "" {
		return ""
	}
	return filepath.Clean(f.Path)
}

// Overlap names what of the host both f and g want, "" if there is nothing.
func (f *Forward) Overlap(g *Forward) string {
	if f.Path != "" || g.Path != "" {
		if f.CleanPath() == g.CleanPath() {
			return "the socket " + f.CleanPath()
		}
		return ""
	}
	a, b := f.Host, g.Host
	if i, j := f.Binding.Interface, g.Binding.Interface; i != j && i != "" && j != "" {
		return ""
	}
	if f.Proto != g.Proto || a.Addr().Is4() != b.Addr().Is4() ||
		a.Addr() != b.Addr() && !a.Addr().IsUnspecified() && !b.Addr().IsUnspecified() {
		return ""
	}
	port := max(a.Port(), b.Port())
	if port-a.Port() >= f.Count || port-b.Port() >= g.Count {
		return ""
	}
	return fmt.Sprintf("port %d of the host", port)
}

// checkPath tells why no socket can have f's path.
func (f *Forward) checkPath() error {
	if f.Path == "" {
		return nil
	}
	return socketfile.CheckLength(f.Path)
}

// CheckDirectory looks at the host, and tells why this process can make no socket at f's path.
func (f *Forward) CheckDirectory() error {
	if f.Path == "" || f.checkPath() != nil {
		return nil
	}
	return socketfile.CheckDirectory(f.Path)
}

// checkPorts returns why a forward cannot have its ports.
func (f *Forward) checkPorts() error {
	const ports = 1 << 16
	switch {
	case f.Count == 0:
		return errors.New("it has no port")
	case f.Path != "" && f.Count != 1:
		return errors.New("a unix socket leads to one port")
	case int(f.Host.Port())+int(f.Count) > ports || int(f.Guest.Port())+int(f.Count) > ports:
		return errors.New("its ports go beyond 65535")
	}
	return nil
}

// checkGate returns why a forward cannot have a gate.
func (f *Forward) checkGate() error {
	switch {
	case !f.Gate:
		return nil
	case f.Path != "":
		return errors.New("a unix socket that was shut cannot be opened again, so only ports can have gates")
	case f.Proto != protoTCP:
		return errors.New("a UDP port has nothing to refuse, so only TCP ports can have gates")
	}
	return nil
}

// checkProxy returns why a forward cannot speak the PROXY protocol.
func (f *Forward) checkProxy() error {
	switch {
	case f.SendProxy > 2:
		return errors.New("the PROXY protocol has versions 1 and 2")
	case f.Proto != protoTCP && (f.AcceptProxy || f.SendProxy != 0):
		return errors.New("a PROXY header stands in front of a stream, so only TCP forwards can have one")
	}
	return nil
}

// checkBinding returns why a forward cannot be bound so.
func (f *Forward) checkBinding() error {
	const maxInterface = 15 // bytes of a name (IFNAMSIZ)
	name := f.Binding.Interface
	switch {
	case f.Path != "" && f.Binding != (Binding{}):
		return errors.New("a unix socket has no port that could be bound otherwise")
	case len(name) > maxInterface || strings.ContainsFunc(name, notInInterface) || name == "." || name == "..":
		return fmt.Errorf("%q is not the name of an interface", name)
	}
	return nil
}

// notInInterface reports whether no interface has a character in its name, or a forward could not be written with it.
func notInInterface(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/:%[]", r) }

// Check returns what is wrong with f by itself. It does not look at the host.
func (f *Forward) Check() (faults []error) {
	for _, err := range []error{f.checkBinding(), f.checkPorts(), f.checkGate(), f.checkProxy(), f.checkPath()} {
		if err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}
