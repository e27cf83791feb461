package nat

import "encoding/binary"

// Flags of a TCP segment (RFC 9293 section 3.1).
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
)

// segment is a TCP segment of the guest, copied.
type segment struct {
	seq, ack uint32
	flags    uint8
	urgent   uint16 // pointer; it means something with flagURG only
	window   uint32 // as sent, not scaled
	offset   int    // of the payload in the chain, in bytes
	n        int    // length of the payload, in bytes
	options  []byte
	hops     uint8  // time to live of the packet
	tos      uint8  // and its traffic class
	timed    bool   // stamp and echo were there, see readTimes
	stamp    uint32 // the guest's clock
	echo     uint32 // and what it has last seen of ours
}

// parseSegment reads the header of a TCP segment; !ok if its lengths contradict each other.
func parseSegment(k *packet) (s segment, ok bool) {
	if len(k.l4) < tcpLen {
		return s, false
	}
	headerLen := int(k.l4[12]>>4) * 4
	if headerLen < tcpLen || headerLen > k.l4Len || headerLen > len(k.l4) {
		return s, false
	}
	return segment{
		seq: binary.BigEndian.Uint32(k.l4[4:]), ack: binary.BigEndian.Uint32(k.l4[8:]),
		flags: k.l4[13], window: uint32(binary.BigEndian.Uint16(k.l4[14:])), urgent: binary.BigEndian.Uint16(k.l4[18:]),
		offset: k.l4Offset + headerLen, n: k.l4Len - headerLen,
		options: k.l4[tcpLen:headerLen], hops: k.hops, tos: k.tos,
	}, true
}

// length is what the segment takes of the sequence space.
func (s *segment) length() uint32 {
	n := uint32(s.n)
	if s.flags&flagSYN != 0 {
		n++
	}
	if s.flags&flagFIN != 0 {
		n++
	}
	return n
}

// tcpOptions are the options of a SYN that matter here.
type tcpOptions struct {
	mss    uint16 // defaultMSS if absent
	scale  uint8  // at most maxScale
	scales bool   // a window scale option was there
	sacks  bool   // selective acknowledgements are permitted
	times  bool   // timestamps are offered, or accepted
	stamp  uint32 // the guest's clock
}

const (
	defaultMSS = 536 // RFC 9293 section 3.7.1
	maxScale   = 14  // RFC 7323 section 2.3

	optionEnd           = 0
	optionNop           = 1
	optionMSS           = 2
	optionScale         = 3
	optionSACKPermitted = 4
	optionSACK          = 5
	optionTimes         = 8
)

// parseOptions reads the options of a SYN.
func parseOptions(b []byte) tcpOptions {
	o := tcpOptions{mss: defaultMSS}
	if v := findOption(b, optionMSS); len(v) == 2 {
		o.mss = binary.BigEndian.Uint16(v)
	}
	if v := findOption(b, optionScale); len(v) == 1 {
		o.scales, o.scale = true, min(v[0], maxScale)
	}
	v := findOption(b, optionSACKPermitted)
	o.sacks = v != nil && len(v) == 0
	if v := findOption(b, optionTimes); len(v) == 8 {
		o.times, o.stamp = true, binary.BigEndian.Uint32(v)
	}
	return o
}

// findOption returns the value of the last option of a kind, nil if it is not there. What is cut off ends the list.
func findOption(b []byte, kind byte) (value []byte) {
	for len(b) > 0 && b[0] != optionEnd {
		if b[0] == optionNop {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		if b[0] == kind {
			value = b[2:b[1]]
		}
		b = b[b[1]:]
	}
	return value
}

// Comparison of sequence numbers, modulo 2^32 (RFC 9293 section 3.4).

func before(a, b uint32) bool  { return int32(a-b) < 0 }
func after(a, b uint32) bool   { return int32(a-b) > 0 }
func atMost(a, b uint32) bool  { return int32(a-b) <= 0 }
func atLeast(a, b uint32) bool { return int32(a-b) >= 0 }

// packetSize is how long the packets of a connection are at most that are not to be cut.
func (e *tcpEngine) packetSize(of *flow) int {
	f := e.conn(of)
	return f.headers() - etherLen + int(f.tcp.mss)
}
