package netpkt

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// Packet is a packet of IP, as its headers describe it.
type Packet struct {
	Src, Dst ipaddr.Addr
	L4       []byte // of transport header and payload, what was copied
	L4Offset int    // of the transport header in the frame, in bytes
	L4Len    int    // of transport header and payload, in bytes; all of it is in the frame
	Proto    uint8  // as the header has it
	Hops     uint8  // time to live, or hop limit
	TOS      uint8  // traffic class: DSCP and ECN
	Whole    bool   // no router may cut the packet
	Part     Part
}

// ParseIPv4 reads the IPv4 header (RFC 791 section 3.1) that b begins with, into a zero Packet. It stands at a byte of its frame, which
// has frameLen bytes in all, of which b has the first ones. False tells that its lengths contradict each other, or the frame.
func (k *Packet) ParseIPv4(b []byte, at int, frameLen int64) bool {
	if len(b) < IPv4Len || b[0]>>4 != 4 {
		return false
	}
	headerLen, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	// What follows the packet is the padding of a short frame (IEEE 802.3 section 3.2.7), and not part of it.
	if headerLen < IPv4Len || total < headerLen || int64(at+total) > frameLen || len(b) < headerLen {
		return false
	}
	k.Src, k.Dst = ipaddr.From4(b[12:]), ipaddr.From4(b[16:])
	k.L4, k.L4Offset, k.L4Len = b[headerLen:min(len(b), total)], at+headerLen, total-headerLen
	k.Proto, k.Hops, k.TOS, k.Whole = b[9], b[8], b[1], b[fragmentField]&dontFragmentBit != 0
	if field := binary.BigEndian.Uint16(b[fragmentField:]); field&(moreFragments|fragmentOffset) != 0 {
		k.Part = Part{
			ID: uint32(binary.BigEndian.Uint16(b[identification:])), Start: int(field&fragmentOffset) * fragmentUnit,
			More: field&moreFragments != 0,
		}
	}
	return true
}

// ParseIPv6 reads the IPv6 header (RFC 8200 section 3) that b begins with, as ParseIPv4 does. Extension headers are not looked at.
func (k *Packet) ParseIPv6(b []byte, at int, frameLen int64) bool {
	if len(b) < IPv6Len || b[0]>>4 != 6 {
		return false
	}
	n := int(binary.BigEndian.Uint16(b[4:])) // 0 would be that of a jumbogram, of which there are none (RFC 2675)
	if int64(at+IPv6Len+n) > frameLen {
		return false
	}
	k.Src, k.Dst = ipaddr.Addr(b[8:24]), ipaddr.Addr(b[24:40])
	k.L4, k.L4Offset, k.L4Len = b[IPv6Len:min(len(b), IPv6Len+n)], at+IPv6Len, n
	k.Proto, k.Hops, k.TOS, k.Whole = b[6], b[7], b[0]<<4|b[1]>>4, true
	return true
}

// TakeFragmentHeader takes the extension header of a fragment off a packet of IPv6 if it has one (RFC 8200 section 4.5). False tells
// that the header is cut off. One that is the whole packet leaves a whole packet (RFC 6946).
func (k *Packet) TakeFragmentHeader() bool {
	if k.Proto != fragmentHeader {
		return true
	}
	if len(k.L4) < fragmentHeaderLen {
		return false
	}
	field := binary.BigEndian.Uint16(k.L4[2:])
	k.Part = Part{
		ID: binary.BigEndian.Uint32(k.L4[4:]), Start: int(field & fragmentOffset6), More: field&moreFragments6 != 0,
	}
	k.Proto, k.Whole = k.L4[0], false
	k.L4, k.L4Offset, k.L4Len = k.L4[fragmentHeaderLen:], k.L4Offset+fragmentHeaderLen, k.L4Len-fragmentHeaderLen
	return true
}
