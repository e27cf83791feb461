package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

const (
	signatureV1 = "PROXY "
	maxV1       = 107 // "PROXY UNKNOWN" with two IPv6 addresses of 39 characters and two ports
	endOfLine   = "\r\n"
)

// parseV1 reads a line such as "PROXY TCP4 192.0.2.7 192.0.2.1 40000 80".
func parseV1(b []byte) (h Header, n int, err error) {
	end := bytes.Index(b[:min(len(b), maxV1)], []byte(endOfLine))
	if end < 0 && len(b) < maxV1 {
		return h, 0, ErrShort
	}
	if end < 0 {
		return h, 0, malformed("the line does not end within %d bytes", maxV1)
	}
	n = end + len(endOfLine)
	line := string(b[len(signatureV1):max(end, len(signatureV1))])
	if line == "UNKNOWN" || strings.HasPrefix(line, "UNKNOWN ") {
		return h, n, nil // the rest is to be ignored
	}
	fields := strings.Split(line, " ")
	if len(fields) != 5 || fields[0] != "TCP4" && fields[0] != "TCP6" {
		return h, 0, Malformed("not TCP4, TCP6 or UNKNOWN, or not two addresses and two ports with a space between")
	}
	if h.Source, err = parseEndpoint(fields[0], fields[1], fields[3]); err != nil {
		return Header{}, 0, err
	}
	if h.Destination, err = parseEndpoint(fields[0], fields[2], fields[4]); err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

func parseEndpoint(family, address, port string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() != (family == "TCP4") || a.Zone() != "" {
		return netip.AddrPort{}, malformed("%q is no address of %s", address, family)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, malformed("%q is no port", port)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

func appendV1(b []byte, h Header) []byte {
	b = append(b, signatureV1...)
	switch {
	case !h.known():
		return append(b, "UNKNOWN\r\n"...)
	case h.isIPv4():
		b = append(b, "TCP4 "...)
		b = append(h.Source.Addr().AppendTo(b), ' ')
		b = append(h.Destination.Addr().AppendTo(b), ' ')
	default:
		b = append(b, "TCP6 "...)
		b = append(appendAs6(b, h.Source.Addr()), ' ')
		b = append(appendAs6(b, h.Destination.Addr()), ' ')
	}
	b = append(strconv.AppendUint(b, uint64(h.Source.Port()), 10), ' ')
	b = strconv.AppendUint(b, uint64(h.Destination.Port()), 10)
	return append(b, endOfLine...)
}

// appendAs6 writes an address as an IPv6 one, an IPv4 address mapped.
func appendAs6(b []byte, a netip.Addr) []byte { return netip.AddrFrom16(a.As16()).AppendTo(b) }
