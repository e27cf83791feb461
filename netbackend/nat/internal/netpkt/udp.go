package netpkt

import "encoding/binary"

// UDPLen is the length of a UDP header, in bytes.
const UDPLen = 8

// PutUDP writes a UDP header without checksum. length is that of header and payload.
func PutUDP(b []byte, from, to uint16, length int) {
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = 0, 0
}

// UDPChecksum turns a sum into the checksum field: 0 there means none (RFC 768).
func UDPChecksum(sum uint16) uint16 {
	if sum == 0xffff {
		return sum
	}
	return ^sum
}

// Ports of DHCP (RFC 2131 section 4.1).
const (
	DHCPServerPort = 67
	DHCPClientPort = 68
)
