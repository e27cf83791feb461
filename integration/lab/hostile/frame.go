package hostile

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Offsets in the frames that are sent here.
const (
	etherLen = 14
	ipLen    = 20
	icmpAt   = etherLen + ipLen

	echoRequestType = 8
	echoReplyType   = 0
)

// echoRequest is a frame with which guest asks the router of the default network for an echo.
func echoRequest(guest netip.Addr) []byte {
	router, from := netip.MustParseAddr("10.0.2.2").As4(), guest.As4()
	b := make([]byte, icmpAt+64)
	copy(b, []byte{0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 0, 0, from[3], 0x08, 0x00})
	ip := b[etherLen:icmpAt]
	ip[0], ip[8], ip[9] = 0x45, 64, 1 // no options, TTL, ICMP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(b)-etherLen))
	copy(ip[12:], from[:])
	copy(ip[16:], router[:])
	binary.BigEndian.PutUint16(ip[10:], ^checksum.Checksum(ip, 0))
	icmp := b[icmpAt:]
	icmp[0] = echoRequestType
	binary.BigEndian.PutUint16(icmp[2:], ^checksum.Checksum(icmp, 0))
	return b
}

func isEchoReply(frame []byte) bool {
	return len(frame) > icmpAt && frame[12] == 0x08 && frame[13] == 0x00 && frame[etherLen+9] == 1 && frame[icmpAt] == echoReplyType
}
