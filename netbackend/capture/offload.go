package capture

import (
	"encoding/binary"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// Complete does what the sender of a frame has left to its device: it fills in the checksum, if the whole frame was captured. A
// header that lies changes nothing.
func (f *Frame) Complete() {
	h := &f.Header
	at := int(h.CsumStart) + int(h.CsumOffset)
	if h.Flags&vnet.FlagNeedsCSum == 0 || len(f.Data) < f.Length || at+2 > len(f.Data) {
		return
	}
	putSum(f.Data[at:], vnet.Sum(f.Data[h.CsumStart:], 0), h.CsumOffset == udpCsumOffset)
}

// putSum writes a checksum by the sum over all that it covers. In UDP, 0 means that there is none (RFC 768).
func putSum(to []byte, sum uint16, udp bool) {
	sum = ^sum
	if udp && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(to, sum)
}

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	udpHeaderLen  = 8
	udpCsumOffset = 6

	protoTCP, protoUDP = 6, 17

	// Flags of TCP, and where they are.
	tcpFlagsAt      = 13
	tcpFIN, tcpPush = 0x01, 0x08
	tcpCWR          = 0x80

	// maxSegments bounds what becomes of one frame. Frames of the longest datagram have less with any size that Linux uses.
	maxSegments = 1024
)

// Cutter cuts frames into the segments that they stand for.
type Cutter struct {
	segment [MaxSnapLen]byte
}

// superframe is a frame that stands for many, taken apart.
type superframe struct {
	*Frame
	network   int // where its IP header is
	transport int // where its TCP or UDP header is
	payload   int // where its payload begins
	isIPv6    bool
	isTCP     bool
}

// Cut calls each with the segments of a frame, in order: what was captured of a segment, and its length. It returns false,
// and calls nothing, for a frame that is none of several segments, or whose headers do not agree with its virtio-net
// header: that frame is to be kept whole. Data are valid during the call. Checksums are right of segments that were captured whole.
func (c *Cutter) Cut(f *Frame, each func(data []byte, length int)) bool {
	s, ok := parse(f)
	if !ok {
		return false
	}
	size := int(f.Header.GSOSize)
	for at := s.payload; at < f.Length; at += size {
		end := min(at+size, f.Length)
		data := c.segment[:copy(c.segment[:], f.Data[:s.payload])]
		if at < len(f.Data) {
			data = append(data, f.Data[at:min(end, len(f.Data))]...)
		}
		s.finish(data, (at-s.payload)/size, end-at, end == f.Length)
		each(data, s.payload+end-at)
	}
	return true
}

// parse finds the headers of a frame of several segments.
func parse(f *Frame) (s superframe, ok bool) {
	h := &f.Header
	s = superframe{Frame: f, transport: int(h.CsumStart), isTCP: true}
	switch h.GSOType &^ vnet.GSOECN {
	case vnet.GSOTCPv4, vnet.GSOTCPv6:
		s.payload = tcpHeaderLen
	case vnet.GSOUDPL4:
		s.payload, s.isTCP = udpHeaderLen, false
	default:
		return s, false
	}
	s.payload += s.transport
	if h.Flags&vnet.FlagNeedsCSum == 0 || h.GSOSize == 0 || len(f.Data) < s.payload || !s.findNetwork() {
		return s, false
	}
	if s.isTCP {
		s.payload = s.transport + int(f.Data[s.transport+12]>>4)*4
	}
	segments := (f.Length - s.payload + int(h.GSOSize) - 1) / int(h.GSOSize)
	return s, s.payload >= s.transport+udpHeaderLen && s.payload <= len(f.Data) && segments > 0 && segments <= maxSegments
}

// findNetwork finds the IP header behind VLAN tags, and reports whether it fits the virtio-net header.
func (s *superframe) findNetwork() bool {
	const tagC, tagS = 0x8100, 0x88a8
	s.network = vnet.EthernetHeaderLen
	for range 2 {
		if t := binary.BigEndian.Uint16(s.Data[s.network-2:]); t != tagC && t != tagS {
			break
		}
		if s.network += 4; s.network > s.transport {
			return false
		}
	}
	etherType := binary.BigEndian.Uint16(s.Data[s.network-2:])
	s.isIPv6 = etherType == vnet.EtherTypeIPv6
	if (etherType != vnet.EtherTypeIPv4 && !s.isIPv6) || s.Header.CheckEtherType(etherType) != nil {
		return false
	}
	if s.isIPv6 {
		return s.network+ipv6HeaderLen <= s.transport
	}
	length := int(s.Data[s.network]&15) * 4
	return length >= ipv4HeaderLen && s.network+length == s.transport
}

// finish makes a copy of the headers those of segment i, which has n bytes of payload.
func (s *superframe) finish(data []byte, i, n int, last bool) {
	ip, l4 := data[s.network:], data[s.transport:]
	length := s.payload - s.transport + n // of header and payload
	if s.isIPv6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(s.transport-s.network-ipv6HeaderLen+length))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(s.transport-s.network+length))
		binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(i))
		binary.BigEndian.PutUint16(ip[10:], 0)
		putSum(ip[10:], vnet.Sum(ip[:s.transport-s.network], 0), false)
	}
	if s.isTCP {
		s.finishTCP(l4, i, last)
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(length))
	}
	s.putChecksum(ip, l4, length)
}

// finishTCP makes a TCP header that of segment i.
func (s *superframe) finishTCP(tcp []byte, i int, last bool) {
	binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(i)*uint32(s.Header.GSOSize))
	if !last {
		tcp[tcpFlagsAt] &^= tcpFIN | tcpPush
	}
	if i > 0 {
		tcp[tcpFlagsAt] &^= tcpCWR
	}
}

// putChecksum fills in the checksum of a segment that was captured whole; of another one, it is that of the pseudo header.
func (s *superframe) putChecksum(ip, l4 []byte, length int) {
	proto, at := uint8(protoTCP), 16
	if !s.isTCP {
		proto, at = protoUDP, udpCsumOffset
	}
	src, dst := ip[12:16], ip[16:20]
	if s.isIPv6 {
		src, dst = ip[8:24], ip[24:40]
	}
	binary.BigEndian.PutUint16(l4[at:], 0)
	sum := vnet.PseudoHeaderSum(proto, src, dst, uint32(length))
	if len(l4) < length {
		binary.BigEndian.PutUint16(l4[at:], sum)
		return
	}
	putSum(l4[at:], vnet.Sum(l4, sum), !s.isTCP)
}
