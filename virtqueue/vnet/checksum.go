package vnet

import (
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
