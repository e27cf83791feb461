package netem

import (
	"encoding/binary"

	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	tagC, tagS = 0x8100, 0x88a8
	tagLen     = 4

	ipv4HeaderLen, ipv6HeaderLen = 20, 40
	udpHeaderLen, udpSumAt       = 8, 6

	protoICMP, protoTCP, protoUDP, protoFragment, protoICMPv6 = 1, 6, 17, 44, 58
)

// shows reports whether checksums of IP, TCP, UDP or ICMP show that a bit of a frame has changed, by where it is. A fragment counts as one
// whose datagram has such a checksum.
func shows(frame []byte, at int) bool {
	network := vnet.EthernetHeaderLen
	for range 2 {
		if t := binary.BigEndian.Uint16(frame[network-2:]); t != tagC && t != tagS || len(frame) < network+tagLen {
			break
		}
		network += tagLen
	}
	packet := frame[network:]
	if at -= network; at < 0 {
		return false
	}
	switch binary.BigEndian.Uint16(frame[network-2:]) {
	case vnet.EtherTypeIPv4:
		return showsIPv4(packet, at)
	case vnet.EtherTypeIPv6:
		return showsIPv6(packet, at)
	}
	return false
}

func showsIPv4(packet []byte, at int) bool {
	if len(packet) < ipv4HeaderLen {
		return false
	}
	header, length := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
	switch {
	case header < ipv4HeaderLen || header > length || length > len(packet):
		return false
	case at < header:
		return true
	case at >= length:
		return false
	}
	const fragment = 0x3fff // more of them, and the offset
	if binary.BigEndian.Uint16(packet[6:])&fragment != 0 {
		return true
	}
	return showsTransport(packet[9], packet[header:length], at-header)
}

func showsIPv6(packet []byte, at int) bool {
	if len(packet) < ipv6HeaderLen {
		return false
	}
	length := ipv6HeaderLen + int(binary.BigEndian.Uint16(packet[4:]))
	const hopLimit = 7
	switch {
	case length > len(packet) || at >= length || at < 4 || at == hopLimit:
		return false // nothing covers the first word and the hop limit
	case packet[6] == protoFragment:
		return true
	}
	return showsTransport(packet[6], packet[ipv6HeaderLen:length], max(at-ipv6HeaderLen, 0))
}

// showsTransport is shows for what an IP packet carries, whose checksum covers the addresses, too.
func showsTransport(proto byte, b []byte, at int) bool {
	switch proto {
	case protoTCP, protoICMP, protoICMPv6:
		return true
	case protoUDP:
		if len(b) < udpHeaderLen {
			return false
		}
		isSum := at == udpSumAt || at == udpSumAt+1
		return isSum || binary.BigEndian.Uint16(b[udpSumAt:]) != 0
	}
	return false
}
