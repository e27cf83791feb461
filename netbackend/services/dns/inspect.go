package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// Verdict is what becomes of a message that a guest sends to its name server.
type Verdict uint8

const (
	// Ordinary is a query that goes on to a resolver.
	Ordinary Verdict = iota
	// Malformed is no message, an answer, or not one question.
	Malformed
	// NotImplemented is another operation than a query: NOTIFY, UPDATE and so on.
	NotImplemented
	// Refused is a transfer of a zone (AXFR, IXFR).
	Refused
)

// rcode is the code with which a message is answered that does not go on.
func (v Verdict) rcode() int {
	return [...]int{
		Ordinary: dns.RcodeSuccess, Malformed: dns.RcodeFormatError,
		NotImplemented: dns.RcodeNotImplemented, Refused: dns.RcodeRefused,
	}[v]
}

const (
	headerLen = 12 // RFC 1035 section 4.1.1
	// MaxQuery is the longest query that goes on, in bytes: as much as EDNS lets a datagram have (RFC 6891 section 6.2.5).
	MaxQuery = 4096

	opcodeQuery = 0
)

// Inspect gives the verdict on a message, as one datagram carries it, or as it stands behind its length on a connection: a resolver trusts the
// host that asks it, and may let it do more than ask. A message without a question is one that asks the server for its cookie (RFC 7873 section
// 5.4); more than one question in a message are answered by nobody (RFC 9619).
func Inspect(message []byte) Verdict {
	const flags, questions = 2, 4
	if len(message) < headerLen || len(message) > MaxQuery || message[flags]&0x80 != 0 {
		return Malformed
	}
	if message[flags]>>3&0xf != opcodeQuery {
		return NotImplemented
	}
	switch binary.BigEndian.Uint16(message[questions:]) {
	case 0:
		return Ordinary
	case 1:
		return inspectQuestion(message)
	}
	return Malformed
}

// inspectQuestion gives the verdict on the question of a query.
func inspectQuestion(message []byte) Verdict {
	at := endOfName(message)
	if at == 0 || at+4 > len(message) {
		return Malformed
	}
	switch binary.BigEndian.Uint16(message[at:]) {
	case dns.TypeAXFR, dns.TypeIXFR:
		return Refused
	}
	return Ordinary
}

// endOfName returns where the name behind the header of a message ends, which may be in a pointer (RFC 1035 section 4.1.4); 0 if it does not end.
func endOfName(message []byte) int {
	const longest, pointer = 63, 0xc0
	for at := headerLen; at < len(message); {
		switch n := int(message[at]); {
		case n == 0:
			return at + 1
		case n >= pointer:
			return at + 2
		case n > longest:
			return 0
		default:
			at += 1 + n
		}
	}
	return 0
}
