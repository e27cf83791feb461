package filter

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Offsets in an Ethernet frame.
const (
	atEtherType = 12
	atNetwork   = 14
	atProtocol4 = atNetwork + 9
	atFragment4 = atNetwork + 6
	atProtocol6 = atNetwork + 6
	atPayload6  = atNetwork + 40
)

// Numbers of protocols (IEEE 802, IANA).
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherRARP = 0x8035
	etherIPv6 = 0x86dd

	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoICMPv6   = 58
	protoSCTP     = 132
)

func byteAt(at int) []Instruction { return []Instruction{{Op: opLoadByte, K: uint32(at)}} }
func halfAt(at int) []Instruction { return []Instruction{{Op: opLoadHalf, K: uint32(at)}} }
func wordAt(at int) []Instruction { return []Instruction{{Op: opLoadWord, K: uint32(at)}} }

func etherType(is uint32) node { return test{halfAt(atEtherType), opEqual, is} }

// ipv4Proto and ipv6Proto tell frames of a protocol above IP. In IPv6 it may stand behind a fragment header.
func ipv4Proto(is uint32) node {
	return both{etherType(etherIPv4), test{byteAt(atProtocol4), opEqual, is}}
}

func ipv6Proto(is uint32) node {
	return allOf(etherType(etherIPv6), anyOf(test{byteAt(atProtocol6), opEqual, is},
		both{test{byteAt(atProtocol6), opEqual, protoFragment}, test{byteAt(atPayload6), opEqual, is}}))
}

func ipProto(is uint32) node { return either{ipv4Proto(is), ipv6Proto(is)} }

// notLater tells a packet of IPv4 that is no fragment but the first.
func notLater() node { return not{test{halfAt(atFragment4), opAnyBit, 0x1fff}} }

// direction says which of two ends is meant.
type direction int

const (
	srcOrDst direction = iota
	src
	dst
	srcAndDst
)

// choose makes the condition that the ends of a direction have, out of that for each end.
func (d direction) choose(source, destination node) node {
	switch d {
	case src:
		return source
	case dst:
		return destination
	case srcAndDst:
		return both{source, destination}
	}
	return either{source, destination}
}

// ends are where a protocol has its addresses.
type ends struct {
	etherType uint32
	src, dst  int
}

var (
	ends4    = ends{etherIPv4, atNetwork + 12, atNetwork + 16}
	ends6    = ends{etherIPv6, atNetwork + 8, atNetwork + 24}
	endsARP  = ends{etherARP, atNetwork + 14, atNetwork + 24}
	endsRARP = ends{etherRARP, atNetwork + 14, atNetwork + 24}
)

// within tells frames with an address in a network.
func (e ends) within(network netip.Prefix, d direction) node {
	if network.Bits() == 0 {
		return etherType(e.etherType)
	}
	return both{etherType(e.etherType), d.choose(addressAt(e.src, network), addressAt(e.dst, network))}
}

// addressAt tells frames with an address in a network at one place. Words that may be anything are not looked at.
func addressAt(at int, network netip.Prefix) node {
	addr := network.Addr().AsSlice()
	var nodes []node
	for i := 0; 8*i < network.Bits(); i += 4 {
		mask := uint32(uint64(0xffffffff) << (32 - min(network.Bits()-8*i, 32)))
		load := wordAt(at + i)
		if mask != 0xffffffff {
			load = append(load, Instruction{Op: opAnd, K: mask})
		}
		nodes = append(nodes, test{load, opEqual, binary.BigEndian.Uint32(addr[i:]) & mask})
	}
	return allOf(nodes...)
}

// ports are a range of ports, and the protocols that it is of.
type ports struct {
	first, last uint32
	protocols   []uint32
}

// node tells frames with such a port.
func (p ports) node(d direction) node {
	var is4, is6 []node
	for _, proto := range p.protocols {
		is4 = append(is4, test{byteAt(atProtocol4), opEqual, proto})
		is6 = append(is6, test{byteAt(atProtocol6), opEqual, proto})
	}
	return either{
		allOf(etherType(etherIPv6), anyOf(is6...), d.choose(p.is(halfAt(atPayload6)), p.is(halfAt(atPayload6+2)))),
		allOf(etherType(etherIPv4), anyOf(is4...), notLater(), d.choose(p.behindIPv4(0), p.behindIPv4(2))),
	}
}

// behindIPv4 looks at a half word behind a header of IPv4.
func (p ports) behindIPv4(at uint32) node {
	return p.is([]Instruction{{Op: opXHeaderLen, K: atNetwork}, {Op: opLoadHalfX, K: atNetwork + at}})
}

// is compares what was loaded with the range.
func (p ports) is(load []Instruction) node {
	if p.first == p.last {
		return test{load, opEqual, p.first}
	}
	return both{test{load, opNotLess, p.first}, not{test{load, opGreater, p.last}}}
}

// macAt tells frames with an Ethernet address at one place.
func macAt(at int, mac net.HardwareAddr) node {
	return both{
		test{wordAt(at + 2), opEqual, binary.BigEndian.Uint32(mac[2:])},
		test{halfAt(at), opEqual, uint32(binary.BigEndian.Uint16(mac))},
	}
}

// etherHost tells frames of an Ethernet address.
func etherHost(mac net.HardwareAddr, d direction) node { return d.choose(macAt(6, mac), macAt(0, mac)) }

func etherBroadcast() node { return macAt(0, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) }
func etherMulticast() node { return test{byteAt(0), opAnyBit, 1} }

func ipv4Multicast() node {
	return both{etherType(etherIPv4), test{byteAt(ends4.dst), opNotLess, 224}}
}

func ipv6Multicast() node {
	return both{etherType(etherIPv6), test{byteAt(ends6.dst), opEqual, 255}}
}
