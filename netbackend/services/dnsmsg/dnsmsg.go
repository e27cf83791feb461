package dnsmsg

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

const headerLen = 12 // RFC 1035 section 4.1.1

// maxDatagram is what we say that we take by UDP: what passes everywhere without fragments.
const maxDatagram = 1232

// Answer begins the answer to a query.
func Answer(query *dns.Msg, rcode int) *dns.Msg {
	return WithEDNS(new(dns.Msg).SetRcode(query, rcode), query)
}

// WithEDNS says in an answer what the engine takes, if the query says what its sender takes (RFC 6891 section 6.1.1). It returns the answer.
func WithEDNS(answer, query *dns.Msg) *dns.Msg {
	if opt := query.IsEdns0(); opt != nil {
		answer.SetEdns0(maxDatagram, opt.Do())
	}
	return answer
}

// Bare is an answer of a header only to a message that has one, for what cannot be read or written.
func Bare(message []byte, rcode int) []byte {
	const opcodeAndRD = 0x79
	b := make([]byte, headerLen)
	copy(b, message[:2])
	b[2], b[3] = 0x80|message[2]&opcodeAndRD, byte(rcode)
	return b
}

// AddrOf returns the address that a name is the reverse name of (RFC 1035 section 3.5, RFC 3596 section 2.5), whatever its case, with a dot at
// its end or without.
func AddrOf(name string) (netip.Addr, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if text, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(text, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	text, ok := strings.CutSuffix(name, ".ip6.arpa")
	digits := strings.Split(text, ".")
	if !ok || len(digits) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, d := range digits {
		digit, err := strconv.ParseUint(d, 16, 4)
		if err != nil || len(d) != 1 {
			return netip.Addr{}, false
		}
		at := 31 - i
		b[at/2] |= byte(digit) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b), true
}
