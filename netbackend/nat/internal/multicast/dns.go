package multicast

import (
	"encoding/binary"
)

// The header of a DNS message (RFC 1035 section 4.1.1), and of a record in it.
const (
	dnsHeaderLen    = 12
	questionLen     = 4  // type and class, behind the name
	recordLen       = 10 // type, class, time to live and length, behind the name
	countOfQuestion = 4
	countOfAnswer   = 6
	countOfNames    = 8 // of the authority section
	countOfMore     = 10

	isResponse = 0x80 // in the third byte
	opcode     = 0x78

	wantsUnicast = 0x80 // in the first byte of a question's class (RFC 6762 section 5.4)

	typeAAAA   = 28
	typeHidden = 0xff00 // for private use (RFC 6895 section 3.1), which nobody asks for
)

// question makes of a message of a guest what may leave: its questions, and nothing else. what is Sent if there are any. m changes.
func question(m []byte) (left []byte, what Outcome) {
	if len(m) < dnsHeaderLen {
		return nil, Malformed
	}
	if m[2]&(isResponse|opcode) != 0 {
		return nil, Kept
	}
	n := binary.BigEndian.Uint16(m[countOfQuestion:])
	if n == 0 || binary.BigEndian.Uint16(m[countOfNames:]) != 0 {
		return nil, Kept // more known answers, or a host claims a name (RFC 6762 sections 7.2 and 8.2)
	}
	end := dnsHeaderLen
	for range n {
		if end = skipName(m, end); end < 0 || end+questionLen > len(m) {
			return nil, Malformed
		}
		m[end+2] &^= wantsUnicast
		end += questionLen
	}
	m[2], m[3] = 0, 0 // not "truncated" any more
	clear(m[countOfAnswer:dnsHeaderLen])
	return m[:end], Sent
}

// response makes of a response of the network what the guest may see. !ok means that it cannot be understood.
func response(m []byte) (ok bool) {
	if len(m) < dnsHeaderLen || m[2]&opcode != 0 {
		return false
	}
	at := dnsHeaderLen
	for range binary.BigEndian.Uint16(m[countOfQuestion:]) {
		if at = skipName(m, at); at < 0 || at+questionLen > len(m) {
			return false
		}
		at += questionLen
	}
	records := 0
	for _, count := range []int{countOfAnswer, countOfNames, countOfMore} {
		records += int(binary.BigEndian.Uint16(m[count:]))
	}
	for range records {
		if at = skipName(m, at); at < 0 || at+recordLen > len(m) {
			return false
		}
		data := at + recordLen
		end := data + int(binary.BigEndian.Uint16(m[at+8:]))
		if end > len(m) {
			return false
		}
		if binary.BigEndian.Uint16(m[at:]) == typeAAAA && isLinkLocal(m[data:end]) {
			binary.BigEndian.PutUint16(m[at:], typeHidden)
		}
		at = end
	}
	return true
}

// isLinkLocal reports whether b is an address of fe80::/10.
func isLinkLocal(b []byte) bool { return len(b) == 16 && b[0] == 0xfe && b[1]&0xc0 == 0x80 }

// What the first byte of a part of a name says (RFC 1035 section 4.1.4): the length of a label, or that the rest of the name is
// elsewhere.
const (
	pointer      = 0xc0
	longestLabel = 63
	longestName  = 255
)

// skipName returns where a name ends that begins at an offset of m, which is one of m; -1 if there is no name.
func skipName(m []byte, at int) int {
	if !isName(m, at) {
		return -1
	}
	for {
		switch n := int(m[at]); {
		case n == 0:
			return at + 1
		case n&pointer == pointer:
			return at + 2
		default:
			at += 1 + n
		}
	}
}

// isName reports whether a name that begins at an offset of m can be read. What a pointer leads to is a name that stands earlier, and
// wholly so: this ends, and reads nothing behind the name.
func isName(m []byte, at int) bool {
	length, start, end := 1, at, len(m)
	for at < end && length <= longestName {
		switch n := int(m[at]); {
		case n == 0:
			return true
		case n&pointer == pointer:
			if at+1 >= end {
				return false
			}
			to := int(binary.BigEndian.Uint16(m[at:]) &^ (pointer << 8))
			if to < dnsHeaderLen || to >= start {
				return false
			}
			at, start, end = to, to, start
		case n > longestLabel:
			return false
		default:
			at, length = at+1+n, length+1+n
		}
	}
	return false
}
