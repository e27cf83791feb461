package netpkt

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Lengths of headers, in bytes.
const (
	EtherLen = 14
	IPv4Len  = 20 // without options
	IPv6Len  = 40 // without extension headers

)

// EtherTypes of frames.
const (
	EtherIPv4 = vnet.EtherTypeIPv4
	EtherIPv6 = vnet.EtherTypeIPv6
	EtherARP  = 0x0806
)

// Protocols, as IP headers have them. In flows and rules ICMP is that of both versions of IP, see ICMPProto.
const (
	ICMP   = unix.IPPROTO_ICMP
	TCP    = unix.IPPROTO_TCP
	UDP    = unix.IPPROTO_UDP
	ICMPv6 = unix.IPPROTO_ICMPV6
)

const (
	// HopLimit is the time to live of what the guest gets.
	HopLimit = 64
	// MinMTU4 is the length in bytes of a packet of IPv4 that every host takes (RFC 791 section 3.1).
	MinMTU4 = 576
	// MinMTU6 is the least MTU in bytes with which there is IPv6 (RFC 8200 section 5).
	MinMTU6 = 1280
	// MaxIPv4Payload is how many bytes are behind an IPv4 header at most.
	MaxIPv4Payload = 65535 - IPv4Len
)

// PutIPv4 writes an IPv4 header without options for n bytes behind it, of a packet that no router may cut.
func PutIPv4(ip []byte, src, dst *ipaddr.Addr, proto uint8, n int) {
	clear(ip)
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(IPv4Len+n))
	ip[fragmentField] = dontFragmentBit
	ip[8], ip[9] = HopLimit, proto
	copy(ip[12:], src[12:])
	copy(ip[16:], dst[12:])
	binary.BigEndian.PutUint16(ip[10:], ^vnet.Sum(ip, 0))
}

// SumIPv4 writes the checksum of an IPv4 header without options that was changed, of which ip has nothing else.
func SumIPv4(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^vnet.Sum(ip, 0))
}

// SetHops writes a time to live and a traffic class into the header ip of either version of IP, of which ip has nothing else.
func SetHops(ip []byte, hops, trafficClass uint8) {
	if ip[0]>>4 == 4 {
		ip[1], ip[8] = trafficClass, hops
		SumIPv4(ip)
		return
	}
	binary.BigEndian.PutUint16(ip, 6<<12|uint16(trafficClass)<<4)
	ip[7] = hops
}

// PutIPv6 writes an IPv6 header for n bytes behind it. proto may be ICMP, which is ICMPv6 there.
func PutIPv6(ip []byte, src, dst *ipaddr.Addr, proto uint8, n int) {
	if proto == ICMP {
		proto = ICMPv6
	}
	binary.BigEndian.PutUint32(ip, 6<<28) // no traffic class or flow label
	binary.BigEndian.PutUint16(ip[4:], uint16(n))
	ip[6], ip[7] = proto, HopLimit
	copy(ip[8:], src[:])
	copy(ip[24:], dst[:])
}

// PseudoSum is the sum of the pseudo header of a TCP segment or UDP datagram of n bytes with its header (RFC 9293 section 3.1, RFC 768,
// RFC 8200 section 8.1).
func PseudoSum(proto uint8, src, dst *ipaddr.Addr, n int) uint16 {
	return vnet.PseudoHeaderSum(proto, src.Bytes(), dst.Bytes(), uint32(n))
}

// ICMPProto is the number of ICMP in the IP headers of packets from or to a.
func ICMPProto(a *ipaddr.Addr) uint8 {
	if a.Is4() {
		return ICMP
	}
	return ICMPv6
}

// ProtoOf is the number by which flows name the protocol of an IP header.
func ProtoOf(proto uint8) uint8 {
	if proto == ICMPv6 {
		return ICMP
	}
	return proto
}
