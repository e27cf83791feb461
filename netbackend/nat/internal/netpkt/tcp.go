package netpkt

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
)

// TCPLen is the length of a TCP header without options, in bytes.
const TCPLen = 20

// Flags of a TCP segment (RFC 9293 section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Segment is the header of a TCP segment.
type Segment struct {
	Seq, Ack seqnum.Value
	Flags    uint8
	Urgent   uint16 // pointer; it means something with URG only
	Window   uint32 // as sent, not scaled
	Offset   int    // of the payload behind the beginning of the header, in bytes
	N        int    // length of the payload, in bytes
	Options  []byte
	Timed    bool   // Stamp and Echo were there, see ReadTimes
	Stamp    uint32 // the sender's clock
	Echo     uint32 // and what it has last seen of the receiver's
}

// Parse reads the header of a TCP segment whose first bytes are b, and which is n bytes long; !ok if its lengths contradict each
// other.
func (s *Segment) Parse(b []byte, n int) (ok bool) {
	if len(b) < TCPLen {
		return false
	}
	headerLen := int(b[12]>>4) * 4
	if headerLen < TCPLen || headerLen > n || headerLen > len(b) {
		return false
	}
	s.Seq, s.Ack = seqnum.From(binary.BigEndian.Uint32(b[4:])), seqnum.From(binary.BigEndian.Uint32(b[8:]))
	s.Flags, s.Window, s.Urgent = b[13], uint32(binary.BigEndian.Uint16(b[14:])), binary.BigEndian.Uint16(b[18:])
	s.Offset, s.N, s.Options = headerLen, n-headerLen, b[TCPLen:headerLen]
	return true
}

// Len is what the segment takes of the sequence space.
func (s *Segment) Len() uint32 {
	n := uint32(s.N)
	if s.Flags&SYN != 0 {
		n++
	}
	if s.Flags&FIN != 0 {
		n++
	}
	return n
}

// PutTCP writes a TCP header without options or checksum.
func PutTCP(tcp []byte, from, to uint16, flags uint8, seq, ack seqnum.Value, window uint16) {
	clear(tcp[:TCPLen])
	binary.BigEndian.PutUint16(tcp[0:], from)
	binary.BigEndian.PutUint16(tcp[2:], to)
	binary.BigEndian.PutUint32(tcp[4:], seq.Uint32())
	binary.BigEndian.PutUint32(tcp[8:], ack.Uint32())
	tcp[12] = TCPLen / 4 << 4
	tcp[13] = flags
	binary.BigEndian.PutUint16(tcp[14:], window)
}

// SetTCPLen notes in a TCP header how long it is with its options, a multiple of 4.
func SetTCPLen(tcp []byte, n int) { tcp[12] = byte(n) / 4 << 4 }

// PutTCPSum writes a TCP header's checksum field.
func PutTCPSum(tcp []byte, sum uint16) { binary.BigEndian.PutUint16(tcp[16:], sum) }

// PutUrgent marks the byte in front of seq+pointer in a TCP header as urgent.
func PutUrgent(tcp []byte, pointer uint16) {
	tcp[13] |= URG
	binary.BigEndian.PutUint16(tcp[18:], pointer)
}

// QuotedSYN returns the beginning of a SYN, as ICMP errors quote it.
func QuotedSYN(from, to uint16, seq seqnum.Value) (tcp [ICMPLen]byte) {
	binary.BigEndian.PutUint16(tcp[0:], from)
	binary.BigEndian.PutUint16(tcp[2:], to)
	binary.BigEndian.PutUint32(tcp[4:], seq.Uint32())
	return tcp
}
