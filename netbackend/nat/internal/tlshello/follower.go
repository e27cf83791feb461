package tlshello

import "encoding/binary"

// A server may ask for a second hello (HelloRetryRequest, RFC 8446 section 4.1.4), and some take the name from that one. So who has
// judged the first looks for the second until the server's answer shows that there will be none.

// AnswerLen is how many bytes of the server's answer tell whether it asks for another hello.
const AnswerLen = recordHeader + handshakeHeader + 2 + 32

// retryRandom returns the random value that marks a ServerHello as a HelloRetryRequest (RFC 8446 section 4.1.3).
func retryRandom() [32]byte {
	return [32]byte{
		0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
		0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
	}
}

// Answer is what the beginning of a server's stream tells.
type Answer uint8

// What it can tell.
const (
	Unclear  Answer = iota // too little is there
	Final                  // no other hello is asked for
	AsksMore               // another hello is asked for
)

// ReadAnswer looks at the first bytes of the server's stream.
func ReadAnswer(b []byte) Answer {
	const typeServerHello = 2
	switch {
	case len(b) == 0:
		return Unclear
	case b[0] != recordHandshake:
		return Final // an alert, or no TLS at all
	case len(b) < AnswerLen:
		return Unclear
	case binary.BigEndian.Uint16(b[3:]) < AnswerLen-recordHeader:
		return Unclear // a ServerHello in fragments
	case b[recordHeader] == typeServerHello && [32]byte(b[AnswerLen-32:AnswerLen]) == retryRandom():
		return AsksMore
	}
	return Final
}

// Follower walks over the records that a client sends behind its hello. The zero value stands at the beginning of a record.
type Follower struct {
	left uint16 // bytes that are left of a record
}

// Next is what comes next.
type Next uint8

// What can come next.
const (
	Passes     Next = iota // records that cannot be a hello
	SecondPart             // a handshake message begins, whose type is not there yet
	Second                 // a hello begins
	Other                  // another handshake message begins: there will be no hello any more
	Broken                 // no record of TLS
)

// Walk returns how many bytes at the beginning of b may pass, and what stands behind them if that are not all. What may pass has to,
// before Walk is called again: n counts as passed. Of a record that is not judged yet, nothing passes.
func (w *Follower) Walk(b []byte) (n int, next Next) {
	for {
		skip := min(int(w.left), len(b)-n)
		w.left -= uint16(skip)
		n += skip
		if n == len(b) {
			return n, Passes
		}
		length, next := recordAt(b[n:])
		if next != Passes {
			return n, next
		}
		n += recordHeader
		w.left = length
	}
}

// recordAt looks at the record that begins b. It returns the length of one that passes.
func recordAt(b []byte) (length uint16, next Next) {
	if b[0] < recordChangeCipherSpec || b[0] > recordData || len(b) > 1 && b[1] != 3 {
		return 0, Broken
	}
	if len(b) < recordHeader {
		return 0, SecondPart
	}
	length = binary.BigEndian.Uint16(b[3:])
	if length > maxRecord+256 { // RFC 8446 section 5.2
		return 0, Broken
	}
	if b[0] != recordHandshake {
		return length, Passes
	}
	switch {
	case length == 0:
		return 0, Broken
	case len(b) == recordHeader:
		return 0, SecondPart
	case b[recordHeader] == typeClientHello:
		return 0, Second
	}
	return 0, Other
}
