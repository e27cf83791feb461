package netpkt

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// Fields of headers about fragments (RFC 791 section 3.1, RFC 8200 section 4.5).
const (
	identification  = 4    // where it stands in an IPv4 header
	fragmentField   = 6    // and where flags and offset stand
	dontFragmentBit = 0x40 // of the first byte of that field
	moreFragments   = 0x2000
	fragmentOffset  = 0x1fff
	fragmentUnit    = 8 // bytes, of the offset

	fragmentHeader    = unix.IPPROTO_FRAGMENT // an extension header
	fragmentHeaderLen = 8
	fragmentOffset6   = 0xfff8
	moreFragments6    = 1
)

// Part is the part of a packet that a fragment has. The zero Part is all of a packet that is none.
type Part struct {
	ID    uint32 // of the packet
	Start int    // of the fragment's payload in that of the whole packet, in bytes
	More  bool   // others follow
}

// IsAll reports whether p is all of a packet.
func (p Part) IsAll() bool { return p.Start == 0 && !p.More }

// PermitFragments lets routers cut the packet with the IPv4 header ip, into fragments with an identification.
func PermitFragments(ip []byte, id uint16) {
	binary.BigEndian.PutUint16(ip[identification:], id)
	ip[fragmentField] = 0
	SumIPv4(ip[:IPv4Len])
}

// FragmentOverhead is how much longer the headers of a fragment to a are than those of a whole packet, in bytes.
func FragmentOverhead(a *ipaddr.Addr) int {
	if a.Is4() {
		return 0
	}
	return fragmentHeaderLen
}

// PutPart turns the IP header ip of a whole packet into that of a fragment with n bytes of payload. What FragmentOverhead counts is
// written to b, which follows ip.
func PutPart(ip, b []byte, p Part, n int) {
	if ip[0]>>4 == 4 {
		field := uint16(p.Start / fragmentUnit)
		if p.More {
			field |= moreFragments
		}
		binary.BigEndian.PutUint16(ip[identification:], uint16(p.ID))
		binary.BigEndian.PutUint16(ip[fragmentField:], field) // without "don't fragment"
		SumIPv4(ip)
		return
	}
	binary.BigEndian.PutUint16(ip[4:], uint16(fragmentHeaderLen+n))
	b[0], b[1] = ip[6], 0
	ip[6] = fragmentHeader
	field := uint16(p.Start)
	if p.More {
		field |= moreFragments6
	}
	binary.BigEndian.PutUint16(b[2:], field)
	binary.BigEndian.PutUint32(b[4:], p.ID)
}
