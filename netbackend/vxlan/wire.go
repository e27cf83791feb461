package vxlan

import "encoding/binary"

const (
	// HeaderLen is the length of a VXLAN header in bytes (RFC 7348 section 5).
	HeaderLen = 8
	// Port is the UDP port of VXLAN (RFC 7348 section 8).
	Port = 4789
	// MaxVNI is the highest number of a network: 24 bits.
	MaxVNI = 1<<24 - 1

	flagVNI = 0x08 // the I flag: the VNI is valid
	// flagProtocol is the P flag of draft-ietf-nvo3-vxlan-gpe: what follows may be no frame. RFC 7348 has it reserved, to be ignored.
	flagProtocol = 0x04
)

// Overhead4 and Overhead6 are how many bytes a frame's payload has less than a packet of IPv4 or IPv6 of the outer network: Ethernet,
// VXLAN, UDP and IP headers.
const (
	Overhead4 = 14 + HeaderLen + 8 + 20
	Overhead6 = 14 + HeaderLen + 8 + 40
)

// putHeader writes the header of a network to b, which has HeaderLen bytes.
func putHeader(b []byte, vni uint32) {
	binary.BigEndian.PutUint32(b, flagVNI<<24)
	binary.BigEndian.PutUint32(b[4:], vni<<8)
}

// readHeader returns the network of a datagram. Bits that are reserved may have any value.
func readHeader(b []byte) (vni uint32, ok bool) {
	if len(b) < HeaderLen || b[0]&flagVNI == 0 || b[0]&flagProtocol != 0 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[4:]) >> 8, true
}
