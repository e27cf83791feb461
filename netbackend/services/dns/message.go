package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/vringnet/vring/netbackend/services/dnsmsg"
)

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
		return dnsmsg.Bare(message, rcode)
	}
	b, err := dnsmsg.Answer(&q, rcode).Pack()
	if err != nil {
		return dnsmsg.Bare(message, rcode)
	}
	return b
}

// Question returns what a query asks: a name with a dot at its end, and the type of records. ok is false for what cannot be read, or has
// another number of questions than one.
func Question(query []byte) (name string, kind uint16, ok bool) {
	var q dns.Msg
	if q.Unpack(query) != nil || len(q.Question) != 1 {
		return "", 0, false
	}
	return q.Question[0].Name, q.Question[0].Qtype, true
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

// IsCut reports whether an answer, which has a header, says that it did not fit (TC of RFC 1035 section 4.1.1).
func IsCut(answer []byte) bool { return answer[2]&0x02 != 0 }

// Fit returns answer as it goes by UDP to who has sent query: if it is longer than what the query says it takes (RFC 6891 section 6.2.3; without EDNS
// 512 bytes), it is cut to its header and question, and says so, and the guest asks again by TCP (RFC 2181 section 9).
func Fit(query, answer []byte) []byte {
	if len(answer) <= dns.MinMsgSize {
		return answer
	}
	var q, a dns.Msg
	if q.Unpack(query) != nil {
		return dnsmsg.Bare(query, dns.RcodeFormatError)
	}
	opt := q.IsEdns0()
	if opt != nil && len(answer) <= int(opt.UDPSize()) {
		return answer
	}
	a.SetReply(&q)
	a.RecursionAvailable, a.Authoritative = answer[3]&0x80 != 0, answer[2]&0x04 != 0
	a.Rcode, a.Truncated = int(answer[3]&0xf), true
	b, err := dnsmsg.WithEDNS(&a, &q).Pack()
	if err != nil {
		return dnsmsg.Bare(query, dns.RcodeServerFailure)
	}
	return b
}
