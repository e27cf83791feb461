package servername

import (
	"errors"
	"net/netip"
	"strings"
)

// Reasons why a text is no name that a rule could mean.
var (
	ErrAddress = errors.New("the name is an address")
	ErrBadName = errors.New("the name is no host name")
)

const (
	maxName  = 253 // RFC 1035 section 2.3.4, as text
	maxLabel = 63
)

// Parse returns a host name in the form of rules: lower case, without a final dot. An address is none, nor is anything that some
// resolver reads as an address.
func Parse(text string) (string, error) {
	name := strings.TrimSuffix(text, ".")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return "", ErrAddress
	}
	if len(name) > maxName {
		return "", ErrBadName
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > maxLabel || !isLabel(label) {
			return "", ErrBadName
		}
		last = label
	}
	if isNumber(strings.ToLower(last)) {
		return "", ErrAddress // such as 127.1 and 0x7f000001, which inet_aton(3) reads as addresses
	}
	return strings.ToLower(name), nil // all of it is ASCII
}

// isLabel reports whether all bytes of a label are those of host names, or underscores.
func isLabel(label string) bool {
	for i := range len(label) {
		switch b := label[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_':
		default:
			return false
		}
	}
	return true
}

// isNumber reports whether a label can be the last part of an address in one of the forms of inet_aton(3). No top-level domain can
// (RFC 3696 section 2).
func isNumber(label string) bool {
	digits, isHex := strings.CutPrefix(label, "0x")
	if isHex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
