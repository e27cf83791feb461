package spec

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What names a protocol in front of ports.
const (
	tcpPrefix  = "tcp:"
	udpPrefix  = "udp:"
	icmpPrefix = "icmp:"
)

// ParseProto reads what ProtoName returns, and reports whether it is that.
func ParseProto(name string) (proto uint8, ok bool) {
	for _, proto := range []uint8{protoTCP, protoUDP, protoICMP} {
		if ProtoName(proto) == name {
			return proto, true
		}
	}
	return 0, false
}

// ProtoName returns the name of a protocol that guests use.
func ProtoName(proto uint8) string {
	switch proto {
	case protoUDP:
		return "udp"
	case protoICMP:
		return "icmp"
	}
	return "tcp"
}

// parseProto takes the protocol from the front of text; it is TCP if nothing is said.
func parseProto(text string) (proto uint8, rest string) {
	if rest, ok := strings.CutPrefix(text, udpPrefix); ok {
		return protoUDP, rest
	}
	return protoTCP, strings.TrimPrefix(text, tcpPrefix)
}

// splitColons splits text at its colons, but for those within brackets.
func splitColons(text string) (parts []string) {
	start, inside := 0, false
	for i, c := range text {
		inside = c == '[' || inside && c != ']'
		if c == ':' && !inside {
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// cutLast cuts text around its last colon.
func cutLast(text string) (before, after string, found bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

// parseBracketed reads an address in front of a port, where one of IPv6 stands in brackets.
func parseBracketed(text string) (netip.Addr, error) {
	inside, isBracketed := strings.CutPrefix(text, "[")
	if isBracketed {
		inside, isBracketed = strings.CutSuffix(inside, "]")
	}
	a, err := parseAddress(inside)
	if err == nil && a.Is6() != isBracketed {
		return a, fmt.Errorf("%q: IPv6 addresses are written in brackets, and no others", text)
	}
	return a, err
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port between 1 and 65535", text)
	}
	return uint16(n), nil
}

// parseAddress reads an address of either version.
func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is not an IP address", text)
	case a.Zone() != "":
		return a, fmt.Errorf("%q has a zone: it is good on one link only, and the guest's is not the host's", text)
	case a.Is4In6():
		return a, fmt.Errorf("%q is an IPv4 address, and reads %s", text, a.Unmap())
	}
	return a, nil
}

// parseNetwork reads ADDRESS[/BITS].
func parseNetwork(text string) (netip.Prefix, error) {
	addr, bits, hasBits := strings.Cut(text, "/")
	a, err := parseAddress(addr)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !hasBits {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not a length between 0 and %d", bits, a.BitLen())
	}
	if m := p.Masked(); m != p {
		return p, fmt.Errorf("%s has bits set behind its first %d; %s was meant, or %s", p, p.Bits(), m, a)
	}
	return p, nil
}

// parsePortRange reads PORT[-LAST].
func parsePortRange(text string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if first, err = parsePort(from); err != nil || !isRange {
		return first, first, err
	}
	if last, err = parsePort(to); err != nil {
		return first, last, err
	}
	if last < first {
		return first, last, fmt.Errorf("the range %q ends before it begins", text)
	}
	return first, last, nil
}

// What a forward, a service or a rule is for, as IP headers number it.
const (
	protoTCP  = unix.IPPROTO_TCP
	protoUDP  = unix.IPPROTO_UDP
	protoICMP = unix.IPPROTO_ICMP // both ICMP and ICMPv6
)
