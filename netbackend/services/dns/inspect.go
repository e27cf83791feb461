package dns

import "github.com/miekg/dns"

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
	// MaxQuery is the longest query by UDP that goes on, in bytes: as much as EDNS lets a message have (RFC 6891 section 6.2.5).
	MaxQuery = 4096

	opcodeQuery = 0
	typeIXFR    = 251 // RFC 1995
	typeAXFR    = 252 // RFC 5936
)

// part is where in a message an Inspector stands.
type part uint8

const (
	inLength part = iota // of two bytes, in front of each message of a stream (RFC 1035 section 4.2.2)
	inHeader
	inName    // of the question
	inPointer // the second byte of one (RFC 1035 section 4.1.4), which ends the name
	inType
	inRest
)

// Inspector looks at the queries that a guest sends by one connection, as they come: a resolver trusts the host that asks it, and
// may let it do more than ask. Its verdict is given before the byte is passed on that completes what it is about. The zero value
// stands at the beginning of a stream. A copy goes on by itself.
type Inspector struct {
	at    part
	seen  uint8  // bytes of that part
	label uint8  // bytes that are left of a label
	left  int    // bytes that are left of the message
	word  uint16 // the bytes of a number
}

// Pass takes the next bytes of a stream and says whether they may go on. After another verdict than Ordinary the Inspector is of
// no use any more.
func (i *Inspector) Pass(b []byte) Verdict {
	for len(b) > 0 {
		if i.at == inRest {
			n := min(i.left, len(b))
			i.left -= n
			b = b[n:]
		} else {
			if v := i.take(b[0]); v != Ordinary {
				return v
			}
			b = b[1:]
		}
		if i.at == inLength || i.left > 0 {
			continue
		}
		if i.at != inRest {
			return Malformed // the message ends before its question does
		}
		*i = Inspector{}
	}
	return Ordinary
}

// take takes one byte.
func (i *Inspector) take(b byte) Verdict {
	i.word = i.word<<8 | uint16(b)
	i.seen++
	if i.at == inLength {
		if i.seen < 2 {
			return Ordinary
		}
		return i.begin(int(i.word))
	}
	i.left--
	switch i.at {
	case inHeader:
		return i.takeHeader(b)
	case inName:
		return i.takeName(b)
	case inPointer:
		i.enter(inType)
	case inType:
		if i.seen < 2 {
			return Ordinary
		}
		if i.word == typeAXFR || i.word == typeIXFR {
			return Refused
		}
		i.enter(inRest)
	}
	return Ordinary
}

// begin begins a message of n bytes.
func (i *Inspector) begin(n int) Verdict {
	i.enter(inHeader)
	i.left = n
	if n < headerLen {
		return Malformed
	}
	return Ordinary
}

func (i *Inspector) enter(p part) { i.at, i.seen, i.word = p, 0, 0 }

// takeHeader takes a byte of the header. A message without a question is one that asks the server for its cookie (RFC 7873
// section 5.4); more than one question in a message are answered by nobody (RFC 9619).
func (i *Inspector) takeHeader(b byte) Verdict {
	const flags, questions = 3, 6 // the bytes up to there were taken
	switch i.seen {
	case flags:
		if b&0x80 != 0 {
			return Malformed
		}
		if b>>3&0xf != opcodeQuery {
			return NotImplemented
		}
	case questions:
		if i.word > 1 {
			return Malformed
		}
		i.label = uint8(i.word) // kept for the header's end
	case headerLen:
		next := inRest
		if i.label == 1 {
			next = inName
		}
		i.label = 0
		i.enter(next)
	}
	return Ordinary
}

// takeName takes a byte of the name in the question.
func (i *Inspector) takeName(b byte) Verdict {
	const longest, pointer = 63, 0xc0
	switch {
	case i.label > 0:
		i.label--
	case b == 0:
		i.enter(inType)
	case b <= longest:
		i.label = b
	case b >= pointer:
		i.enter(inPointer)
	default:
		return Malformed
	}
	i.seen = 0 // names may be longer than it counts
	return Ordinary
}

// Inspect gives the verdict on a whole message, as one datagram carries it.
func Inspect(message []byte) Verdict {
	var i Inspector
	if len(message) > MaxQuery || i.begin(len(message)) != Ordinary {
		return Malformed
	}
	return i.Pass(message)
}
