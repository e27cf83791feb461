package drops

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// HeadLen is how many bytes of a frame ParseFrame looks at: Ethernet, the longest header of IPv4, and ports.
const HeadLen = 14 + 60 + 4

const (
	etherLen = 14
	ipv4     = 0x0800
	ipv6     = 0x86dd
	ipv4Len  = 20
	ipv6Len  = 40
)

// ParseFrame tells what the first bytes of a frame of a length say of it. They may be anything: what cannot be read is not known.
func ParseFrame(head []byte, length int) (f Frame) {
	f.Length = length
	if len(head) < etherLen {
		return f
	}
	f.EtherType = binary.BigEndian.Uint16(head[12:])
	packet := head[etherLen:]
	switch {
	case f.EtherType == ipv4 && len(packet) >= ipv4Len:
		f.parseIPv4(packet)
	case f.EtherType == ipv6 && len(packet) >= ipv6Len:
		f.Proto = packet[6]
		src, dst := netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		f.setEnds(src, dst, packet[ipv6Len:])
	}
	return f
}

func (f *Frame) parseIPv4(packet []byte) {
	f.Proto = packet[9]
	src, dst := netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	const offset = 0x1fff // of a fragment
	headers := 4 * int(packet[0]&0x0f)
	if binary.BigEndian.Uint16(packet[6:])&offset != 0 || headers > len(packet) {
		headers = len(packet) // there are no ports
	}
	f.setEnds(src, dst, packet[headers:])
}

// setEnds sets the addresses, and the ports that l4 begins with, if it is of a protocol that has some.
func (f *Frame) setEnds(src, dst netip.Addr, l4 []byte) {
	var ports [2]uint16
	if (f.Proto == unix.IPPROTO_TCP || f.Proto == unix.IPPROTO_UDP) && len(l4) >= 4 {
		ports = [2]uint16{binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])}
	}
	f.Src, f.Dst = netip.AddrPortFrom(src, ports[0]), netip.AddrPortFrom(dst, ports[1])
}
