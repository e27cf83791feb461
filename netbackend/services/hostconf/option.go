package hostconf

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Option is one of DHCP or DHCPv6 by its number.
type Option struct {
	Code  uint16
	Value []byte
	Omit  bool // it is left out of answers that would have it
	text  string
}

// OptionForm is what ParseOption reads.
const OptionForm = "NUMBER=VALUE"

// maxOption is the longest value in bytes.
const maxOption = 1024

// String returns o as it was written.
func (o Option) String() string { return o.text }

// ownOptions are those of the protocol itself, and what they are for.
func ownOptions() map[uint16]string {
	return map[uint16]string{
		0: "padding", 1: "the subnet mask; --network sets it", 50: "the address", 51: "the lease time", 52: "the space of options",
		53: "the kind of message", 54: "the server", 55: "the list of options", 57: "the size of messages", 61: "the client",
		80: "the rapid commit", 82: "the relay", 255: "the end",
	}
}

// ownOptions6 are those of DHCPv6.
func ownOptions6() map[uint16]string {
	return map[uint16]string{
		0: "reserved", 1: "the client", 2: "the server", 3: "the address", 4: "the temporary address", 5: "the address", 6: "the list of options",
		8: "the time", 9: "the relay", 11: "the authentication", 13: "the status", 14: "the rapid commit", 18: "the relay", 19: "the server's call",
		20: "the server's call", 25: "the prefix", 26: "the prefix",
	}
}

// ParseOption reads OptionForm for DHCP, and ParseOption6 for DHCPv6.
func ParseOption(text string) (Option, error) {
	return parseOption("--dhcp-option", text, 255, ownOptions(), netip.Addr.Is4, "42=192.0.2.1,192.0.2.2")
}

// ParseOption6 reads OptionForm for DHCPv6.
func ParseOption6(text string) (Option, error) {
	return parseOption("--dhcp6-option", text, 65535, ownOptions6(), netip.Addr.Is6, "31=2001:db8::1,2001:db8::2")
}

func parseOption(flag, text string, most uint64, own map[uint16]string, fits func(netip.Addr) bool, example string) (Option, error) {
	number, value, found := strings.Cut(text, "=")
	code, err := strconv.ParseUint(number, 10, 16)
	if !found || err != nil || code > most {
		return Option{}, fmt.Errorf("%s %q: want %s with a number of 1 to %d, as in %s", flag, text, OptionForm, most, example)
	}
	if what, ok := own[uint16(code)]; ok {
		return Option{}, fmt.Errorf("%s %q: option %d is the protocol's own, for %s; it cannot be set", flag, text, code, what)
	}
	o := Option{Code: uint16(code), Omit: value == "", text: text}
	if o.Value, err = parseValue(value, fits); err == nil && len(o.Value) > maxOption {
		err = fmt.Errorf("the value has %d bytes; want %d at most", len(o.Value), maxOption)
	}
	if err != nil {
		return Option{}, fmt.Errorf("%s %q: %w", flag, text, err)
	}
	return o, nil
}

// parseValue reads the value of an option: addresses, text, or hex.
func parseValue(value string, fits func(netip.Addr) bool) ([]byte, error) {
	if digits, found := strings.CutPrefix(value, "hex:"); found {
		b, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(digits))
		if err != nil {
			return nil, fmt.Errorf("%q is not hexadecimal; want an even number of digits, as in hex:0578", digits)
		}
		return b, nil
	}
	if list, found := strings.CutPrefix(value, "ip:"); found {
		return parseAddresses(list, fits)
	}
	if text, found := strings.CutPrefix(value, "text:"); found {
		return []byte(text), nil
	}
	if _, err := strconv.ParseUint(value, 0, 64); err == nil {
		return nil, fmt.Errorf("how many bytes a number has is not known here; write it as hex:, or as text:%s", value)
	}
	if slices.ContainsFunc(strings.Split(value, ","), func(s string) bool { _, err := netip.ParseAddr(s); return err == nil }) {
		return parseAddresses(value, fits)
	}
	return []byte(value), nil
}

func parseAddresses(list string, fits func(netip.Addr) bool) (b []byte, err error) {
	for part := range strings.SplitSeq(list, ",") {
		a, err := netip.ParseAddr(part)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not an address; if all of it is text, write %q", part, "text:"+list)
		case !fits(a) || a.Zone() != "":
			return nil, fmt.Errorf("%s is of the other version of IP; IPv4 belongs to --dhcp-option, IPv6 to --dhcp6-option", a)
		}
		b = append(b, a.AsSlice()...)
	}
	return b, nil
}
