package netpkt

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
)

const (
	// DefaultMSS is the longest segment that a host takes that does not say how long it may be (RFC 9293 section 3.7.1).
	DefaultMSS = 536
	// MaxScale is the greatest shift of a window (RFC 7323 section 2.3).
	MaxScale = 14

	optionEnd           = 0
	optionNop           = 1
	optionMSS           = 2
	optionScale         = 3
	optionSACKPermitted = 4
	optionSACK          = 5
	optionTimes         = 8

	// TimesLen is the length of the timestamps option behind two NOPs, which is how nearly every stack places it, and the only option
	// of most segments (RFC 7323 appendix A).
	TimesLen  = 12
	timesLead = optionNop<<24 | optionNop<<16 | optionTimes<<8 | 10

	// SYNOptionsLen is the length of what PutSYNOptions writes.
	SYNOptionsLen = 12
)

// SYNOptions are the options of a SYN that matter here.
type SYNOptions struct {
	MSS    uint16 // DefaultMSS if absent
	Scale  uint8  // at most MaxScale
	Scales bool   // a window scale option was there
	SACKs  bool   // selective acknowledgements are permitted
	Times  bool   // timestamps are offered, or accepted
	Stamp  uint32 // the sender's clock
}

// ParseSYNOptions reads the options of a SYN.
func ParseSYNOptions(b []byte) SYNOptions {
	o := SYNOptions{MSS: DefaultMSS}
	if v := findOption(b, optionMSS); len(v) == 2 {
		o.MSS = binary.BigEndian.Uint16(v)
	}
	if v := findOption(b, optionScale); len(v) == 1 {
		o.Scales, o.Scale = true, min(v[0], MaxScale)
	}
	v := findOption(b, optionSACKPermitted)
	o.SACKs = v != nil && len(v) == 0
	if v := findOption(b, optionTimes); len(v) == 8 {
		o.Times, o.Stamp = true, binary.BigEndian.Uint32(v)
	}
	return o
}

// PutSYNOptions writes the options of a SYN but for timestamps: its MSS, and what else is on.
func PutSYNOptions(b []byte, o SYNOptions) {
	for i := range b[:SYNOptionsLen] {
		b[i] = optionNop
	}
	b[0], b[1] = optionMSS, 4
	binary.BigEndian.PutUint16(b[2:], o.MSS)
	if o.SACKs {
		b[6], b[7] = optionSACKPermitted, 2
	}
	if o.Scales {
		b[9], b[10], b[11] = optionScale, 3, o.Scale
	}
}

// ReadTimes takes the timestamps of a segment out of its options, if it has any.
func (s *Segment) ReadTimes() {
	v := s.Options
	if len(v) == TimesLen && binary.BigEndian.Uint32(v) == timesLead {
		s.Options = nil
		v = v[4:]
	} else if v = findOption(v, optionTimes); len(v) != 8 {
		return
	}
	s.Timed, s.Stamp, s.Echo = true, binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])
}

// PutTimes writes the timestamps option, of TimesLen bytes.
func PutTimes(b []byte, stamp, echo uint32) {
	binary.BigEndian.PutUint32(b, timesLead)
	binary.BigEndian.PutUint32(b[4:], stamp)
	binary.BigEndian.PutUint32(b[8:], echo)
}

// EachSACK calls fn for the blocks of a segment's SACK option (RFC 2018 section 3).
func (s *Segment) EachSACK(fn func(seqnum.Range)) {
	for b := findOption(s.Options, optionSACK); len(b) >= 8; b = b[8:] {
		fn(seqnum.Range{First: seqnum.From(binary.BigEndian.Uint32(b)), End: seqnum.From(binary.BigEndian.Uint32(b[4:]))})
	}
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
