package vnet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Sum adds b to a running Internet checksum (RFC 1071). The sum is folded to 16 bits, not inverted, and b must have an
// even length unless it is the last part.
func Sum(b []byte, initial uint16) uint16 { return checksum.Checksum(b, initial) }

// Combine adds two sums.
func Combine(a, b uint16) uint16 { return checksum.Combine(a, b) }

// PseudoHeaderSum is the sum of the pseudo header of a transport protocol: RFC 9293 section 3.1 for addresses of 4
// bytes, RFC 8200 section 8.1 for those of 16. Length counts the transport header and its payload. This, not inverted,
// is what a partial checksum holds (see [FlagNeedsCSum]).
func PseudoHeaderSum(proto uint8, src, dst []byte, length uint32) uint16 {
	sum := Sum(dst, Sum(src, 0))
	sum = Combine(sum, uint16(length>>16))
	sum = Combine(sum, uint16(length))
	return Combine(sum, uint16(proto))
}

// FixChecksum completes a partial checksum: frame holds the sum of the pseudo header at start+offset, and all bytes from
// start on are covered. Both come from a header that passed [Header.Check]; if they do not fit the frame all the same, it
// reports false and changes nothing. A sum of 0 is written as 0xffff, since 0 means "none" to UDP and they are equal
// otherwise.
func FixChecksum(frame []byte, start, offset uint16) bool {
	at := int(start) + int(offset)
	if at+2 > len(frame) {
		return false
	}
	sum := ^Sum(frame[start:], 0)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(frame[at:], sum)
	return true
}

// UpdateChecksum returns the checksum field that was check after a 16-bit word that it covers changed from before to
// after (RFC 1624, equation 3).
func UpdateChecksum(check, before, after uint16) uint16 {
	return ^Combine(Combine(^check, ^before), after)
}

// Segments returns into how many segments of size bytes a payload is cut, at least 1. Size must not be 0.
func Segments(payload int, size uint16) int {
	return max(1, (payload+int(size)-1)/int(size))
}
