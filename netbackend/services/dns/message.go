package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// maxDatagram is what we say that we take by UDP: what passes everywhere without fragments.
const maxDatagram = 1232

// Fail returns the answer SERVFAIL to a query that nobody can be asked (RFC 1035 section 4.1.1), so that the guest need not wait
// for a timeout; nil if the message is no query.
func Fail(query []byte) []byte { return answer(query, dns.RcodeServerFailure) }

// Refuse returns the answer to a message that is not passed on for its verdict, nil if it gets none.
func Refuse(message []byte, v Verdict) []byte { return answer(message, v.rcode()) }

// answer returns an answer to message with an error, nil if the message is shorter than a header, or an answer itself: two servers
// could keep each other busy.
func answer(message []byte, rcode int) []byte {
	if len(message) < headerLen || message[2]&0x80 != 0 {
		return nil
	}
	var q dns.Msg
	if q.Unpack(message) != nil {
		return bare(message, rcode)
	}
	a := new(dns.Msg).SetRcode(&q, rcode)
	if opt := q.IsEdns0(); opt != nil { // RFC 6891 section 6.1.1
		a.SetEdns0(maxDatagram, opt.Do())
	}
	b, err := a.Pack()
	if err != nil {
		return bare(message, rcode)
	}
	return b
}

// bare is an answer of a header only, for what cannot be read.
func bare(message []byte, rcode int) []byte {
	const opcodeAndRD = 0x79
	b := make([]byte, headerLen)
	copy(b, message[:2])
	b[2], b[3] = 0x80|message[2]&opcodeAndRD, byte(rcode)
	return b
}

// Reply is what a resolver's answer says of what is to be done.
type Reply uint8

const (
	// NoReply is not the answer to the query.
	NoReply Reply = iota
	// Final is for the guest.
	Final
	// AskNext is for the guest if no other resolver has a better one: SERVFAIL, NOTIMP or REFUSED, as with the C library.
	AskNext
)

// Classify says what message, which came from the resolver that was asked, is to query.
func Classify(query, message []byte) Reply {
	if len(query) < headerLen || len(message) < headerLen || message[2]&0x80 == 0 ||
		binary.BigEndian.Uint16(message) != binary.BigEndian.Uint16(query) {
		return NoReply
	}
	switch message[3] & 0xf {
	case dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused:
		return AskNext
	}
	return Final
}
