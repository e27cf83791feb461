package proxyproto

import (
	"errors"
	"fmt"
	"net/netip"
)

// Header is what a header tells. If it names no addresses (LOCAL, UNKNOWN, unix sockets), both are zero: then the
// connection's own are meant.
type Header struct{ Source, Destination netip.AddrPort }

const (
	// MaxLen is the length in bytes of the longest header that Parse takes. Version 1 has at most 107; with version 2
	// the addresses are 52, and the rest is what proxies like to add.
	MaxLen = 4096
	// MaxWritten is the length of the longest header that Append writes.
	MaxWritten = maxV1
)

// ErrShort is returned by Parse for what may become a header.
var ErrShort = errors.New("the header is not complete")

// Malformed says why something is no header.
type Malformed string

// Error implements error.
func (m Malformed) Error() string { return "no PROXY header: " + string(m) }

// Parse reads the header at the beginning of b, of either version, and returns its length. The error is ErrShort as long
// as what follows b may complete it, and Malformed otherwise.
func Parse(b []byte) (h Header, n int, err error) {
	switch {
	case begins(b, signatureV2):
		return parseV2(b)
	case begins(b, signatureV1):
		return parseV1(b)
	}
	return h, 0, Malformed("it begins with neither signature")
}

// begins tells whether b begins with the signature s, or is the beginning of it.
func begins(b []byte, s string) bool {
	n := min(len(b), len(s))
	return string(b[:n]) == s[:n]
}

// Append appends a header of version 1 or 2 to dst.
func Append(dst []byte, version int, h Header) []byte {
	if version == 1 {
		return appendV1(dst, h)
	}
	return appendV2(dst, h)
}

// isIPv4 tells whether h can be told as a pair of IPv4 addresses; known, whether there are addresses.
func (h Header) isIPv4() bool { return h.Source.Addr().Is4() && h.Destination.Addr().Is4() }
func (h Header) known() bool  { return h.Source.Addr().IsValid() && h.Destination.Addr().IsValid() }

func malformed(format string, args ...any) error { return Malformed(fmt.Sprintf(format, args...)) }
