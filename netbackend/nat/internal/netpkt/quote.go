package netpkt

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
)

// Quote is what an ICMP error quotes of a packet.
type Quote struct {
	Src, Dst         ipaddr.Addr
	SrcPort, DstPort uint16       // of an echo reply, DstPort is the identifier
	Seq              seqnum.Value // of TCP
	Size             int          // of the packet, in bytes
	Proto            uint8        // as flows name it
}

// ParseQuote reads what q, the payload of an ICMP error of a version of IP, quotes. It is not ok if too little is quoted to name a
// conversation. Only a first fragment names one.
func ParseQuote(q []byte, is4 bool) (r Quote, ok bool) {
	var l4 []byte
	if is4 {
		l4, ok = r.parseIPv4(q)
	} else {
		l4, ok = r.parseIPv6(q)
	}
	if !ok || len(l4) < ICMPLen {
		return r, false
	}
	return r, r.parseTransport(l4)
}

// parseIPv4 reads the IPv4 header of what was quoted, and returns what follows.
func (r *Quote) parseIPv4(q []byte) (l4 []byte, ok bool) {
	if len(q) < IPv4Len || q[0]>>4 != 4 || len(q) < int(q[0]&15)*4 || binary.BigEndian.Uint16(q[fragmentField:])&fragmentOffset != 0 {
		return nil, false
	}
	r.Size = int(binary.BigEndian.Uint16(q[2:]))
	r.Src, r.Dst, r.Proto = ipaddr.From4(q[12:]), ipaddr.From4(q[16:]), q[9]
	return q[int(q[0]&15)*4:], true
}

// parseIPv6 is parseIPv4 for IPv6.
func (r *Quote) parseIPv6(q []byte) (l4 []byte, ok bool) {
	if len(q) < IPv6Len || q[0]>>4 != 6 {
		return nil, false
	}
	r.Size = IPv6Len + int(binary.BigEndian.Uint16(q[4:]))
	r.Src, r.Dst, r.Proto = ipaddr.Addr(q[8:24]), ipaddr.Addr(q[24:40]), q[6]
	q = q[IPv6Len:]
	if r.Proto == fragmentHeader {
		if len(q) < fragmentHeaderLen || binary.BigEndian.Uint16(q[2:])&fragmentOffset6 != 0 {
			return nil, false
		}
		r.Proto, q = q[0], q[fragmentHeaderLen:]
	}
	r.Proto = ProtoOf(r.Proto)
	return q, true
}

// parseTransport reads the first eight bytes of the transport header that was quoted. Of ICMP only echo replies are part of a
// conversation that the engine has with the guest.
func (r *Quote) parseTransport(l4 []byte) (ok bool) {
	switch r.Proto {
	case TCP:
		r.Seq = seqnum.From(binary.BigEndian.Uint32(l4[4:]))
	case ICMP:
		r.DstPort = binary.BigEndian.Uint16(l4[4:]) // the identifier
		return l4[0] == EchoReply(&r.Dst)
	case UDP:
	default:
		return false
	}
	r.SrcPort, r.DstPort = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	return true
}
