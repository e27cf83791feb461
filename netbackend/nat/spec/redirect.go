package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Redirect leads what the guest sends to one destination to another one. It is open, also if that is the host's own: a redirect is an
// exception that its author has wanted.
type Redirect struct {
	Proto uint8 // unix.IPPROTO_TCP or IPPROTO_UDP; 0 stands for both
	// From is what the guest names, and To where that leads. Port 0 of both stands for all ports, each of which leads to the same
	// number.
	From, To netip.AddrPort
}

// RedirectForm is what ParseRedirect reads.
const RedirectForm = "[tcp:|udp:]ADDRESS[:PORT]=HOST-ADDRESS[:PORT]"

// ParseRedirect reads RedirectForm, where an IPv6 address in front of a port stands in brackets.
func ParseRedirect(text string) (Redirect, error) {
	r, err := readRedirect(text)
	if err != nil {
		return Redirect{}, fmt.Errorf("redirect %q: %w; want %s, as in tcp:10.0.2.100:5432=127.0.0.1:5432", text, err, RedirectForm)
	}
	return r, nil
}

func readRedirect(text string) (r Redirect, err error) {
	from, to, found := strings.Cut(text, "=")
	if !found {
		return r, errors.New("it does not say where the guest is led to")
	}
	for name, proto := range map[string]uint8{tcpPrefix: protoTCP, udpPrefix: protoUDP} {
		if rest, ok := strings.CutPrefix(from, name); ok {
			from, r.Proto = rest, proto
			break
		}
	}
	if r.From, err = readEnd(from); err != nil {
		return r, err
	}
	r.To, err = readEnd(to)
	return r, err
}

// readEnd reads an address that may have a port.
func readEnd(text string) (end netip.AddrPort, err error) {
	if a, err := parseAddress(text); err == nil {
		return netip.AddrPortFrom(a, 0), nil
	}
	addr, port, hasPort := cutLast(text)
	a, err := parseBracketed(addr)
	if err != nil || !hasPort {
		return end, err
	}
	n, err := parsePort(port)
	return netip.AddrPortFrom(a, n), err
}

// String returns r as ParseRedirect reads it.
func (r Redirect) String() string {
	text := endText(r.From) + "=" + endText(r.To)
	if r.Proto != 0 {
		text = ProtoName(r.Proto) + ":" + text
	}
	return text
}

func endText(end netip.AddrPort) string {
	if end.Port() == 0 {
		return end.Addr().String()
	}
	return bracketed(end.Addr()) + ":" + strconv.Itoa(int(end.Port()))
}

// Check tells what is wrong with r by itself.
func (r *Redirect) Check() error {
	from, to := r.From.Addr(), r.To.Addr()
	switch {
	case r.Proto != 0 && r.Proto != protoTCP && r.Proto != protoUDP:
		return fmt.Errorf("redirect %s: want TCP or UDP", r)
	case !isOneHost(from) && !isOnLink(from) || from.IsLoopback():
		return fmt.Errorf("redirect %s: %s is no address of one host that the guest can name", r, from)
	case !isOneHost(to):
		return fmt.Errorf("redirect %s: %s is no address of one host", r, to)
	case (r.From.Port() == 0) != (r.To.Port() == 0):
		return fmt.Errorf("redirect %s: write a port on both sides, or on none for all of them", r)
	}
	return nil
}

// isOnLink reports whether a is an address of IPv6 on the guest's link, where the router has one.
func isOnLink(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "" }

// isOneHost reports whether a is an address of one host, which needs no zone.
func isOneHost(a netip.Addr) bool {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != broadcast && a.Zone() == "" && !a.Is4In6() && !(a.Is6() && a.IsLinkLocalUnicast())
}

// Overlaps reports whether both say where the same destination leads, and neither is the exception from the other that a port is from all.
func (r *Redirect) Overlaps(other *Redirect) bool {
	return r.From == other.From && (r.Proto == other.Proto || r.Proto == 0 || other.Proto == 0)
}

// Protocols are those that r is about.
func (r *Redirect) Protocols() []uint8 {
	if r.Proto == 0 {
		return []uint8{protoTCP, protoUDP}
	}
	return []uint8{r.Proto}
}

// RedirectedAddresses are the addresses that guests name, each once.
func RedirectedAddresses(redirects []Redirect) (all []netip.Addr) {
	for i := range redirects {
		if a := redirects[i].From.Addr(); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}
