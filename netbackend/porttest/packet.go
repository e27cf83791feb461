package porttest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// Flags of a TCP segment (RFC 9293 section 3.1).
const (
	FIN = header.TCPFlagFin
	SYN = header.TCPFlagSyn
	RST = header.TCPFlagRst
	PSH = header.TCPFlagPsh
	ACK = header.TCPFlagAck
	URG = header.TCPFlagUrg
	ECE = header.TCPFlagEce
	CWR = header.TCPFlagCwr
)

const (
	etherLen = header.EthernetMinimumSize
	tcpLen   = header.TCPMinimumSize
	udpLen   = header.UDPMinimumSize
)

// ipLen is the length of the IP header in front of what goes to or comes from a.
func ipLen(a netip.Addr) int {
	if a.Is4() {
		return header.IPv4MinimumSize
	}
	return header.IPv6MinimumSize
}

// Segment is a TCP segment, as it was received or is to be sent. All fields are sent as they are.
type Segment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    header.TCPFlags
	Window   uint16 // as in the header, not scaled
	Urgent   uint16
	Options  []byte // in whole 32-bit words
	Payload  []byte
	// GSOSize is the segment size by which the virtio-net header wants the payload cut, 0 for a single segment.
	GSOSize uint16
}

// Len returns how much sequence space s takes.
func (s *Segment) Len() uint32 {
	n := uint32(len(s.Payload))
	if s.Flags.Contains(SYN) {
		n++
	}
	if s.Flags.Contains(FIN) {
		n++
	}
	return n
}

// Has tells whether all of flags are set.
func (s *Segment) Has(flags header.TCPFlags) bool { return s.Flags.Contains(flags) }

// String is one line for a trace.
func (s *Segment) String() string {
	return fmt.Sprintf("%v > %v [%v] seq %d ack %d win %d len %d gso %d",
		s.Src, s.Dst, s.Flags, s.Seq, s.Ack, s.Window, len(s.Payload), s.GSOSize)
}

// Datagram is a UDP datagram.
type Datagram struct {
	Src, Dst netip.AddrPort
	Payload  []byte

	// GSOSize, if it is not 0, is the length of the datagrams that Payload is to be cut into, or was put together of.
	GSOSize uint16
	TTL     uint8 // time to live of a sent one, or its hop limit; 0 for 64
	// DontFragment is set in the IPv4 header of a sent one.
	DontFragment bool
}

// header sets what d says of the IP header in frame.
func (d *Datagram) header(frame []byte) []byte {
	if d.Dst.Addr().Is6() {
		if d.TTL != 0 {
			header.IPv6(frame[etherLen:]).SetHopLimit(d.TTL)
		}
		return frame
	}
	ip := header.IPv4(frame[etherLen:])
	if d.TTL != 0 {
		ip.SetTTL(d.TTL)
	}
	if d.DontFragment {
		ip.SetFlagsFragmentOffset(header.IPv4FlagDontFragment, 0)
	}
	ip.SetChecksum(0)
	ip.SetChecksum(^vnet.Sum(ip[:header.IPv4MinimumSize], 0))
	return frame
}

// split returns the datagrams that d was put together of.
func (d *Datagram) split() (list []*Datagram) {
	if d.GSOSize == 0 {
		return []*Datagram{d}
	}
	for payload := range slices.Chunk(d.Payload, int(d.GSOSize)) {
		list = append(list, &Datagram{Src: d.Src, Dst: d.Dst, Payload: payload})
	}
	return list
}

// ICMP is an ICMP message (RFC 792), or one of ICMPv6 (RFC 4443).
type ICMP struct {
	Type, Code uint8
	Rest       uint32 // the second word of the header
	Payload    []byte
}

// ethernet returns a frame from src to dst.
func ethernet(dst, src [6]byte, etherType uint16, payload ...[]byte) []byte {
	frame := append(append([]byte{}, dst[:]...), src[:]...)
	frame = binary.BigEndian.AppendUint16(frame, etherType)
	for _, p := range payload {
		frame = append(frame, p...)
	}
	return frame
}

// ipv4 returns the header of a packet that carries length bytes.
func ipv4(proto uint8, src, dst netip.Addr, length int) []byte {
	b := header.IPv4(make([]byte, header.IPv4MinimumSize))
	b[0] = 4<<4 | header.IPv4MinimumSize/4
	b.SetTotalLength(uint16(len(b) + length))
	b.SetTTL(64)
	b[9] = proto
	copy(b.SourceAddressSlice(), src.AsSlice())
	copy(b.DestinationAddressSlice(), dst.AsSlice())
	b.SetChecksum(^vnet.Sum(b, 0))
	return b
}

// ipv6 returns the header of a packet that carries length bytes.
func ipv6(proto uint8, src, dst netip.Addr, length int) []byte {
	b := header.IPv6(make([]byte, header.IPv6MinimumSize))
	b.Encode(&header.IPv6Fields{
		PayloadLength: uint16(length), TransportProtocol: tcpip.TransportProtocolNumber(proto), HopLimit: 64,
		SrcAddr: tcpip.AddrFromSlice(src.AsSlice()), DstAddr: tcpip.AddrFromSlice(dst.AsSlice()),
	})
	return b
}

// tcp returns the header of s with a full checksum, or the partial one that offload wants.
func (s *Segment) tcp(partial bool) []byte {
	b := header.TCP(make([]byte, tcpLen+len(s.Options)))
	b.SetSourcePort(s.Src.Port())
	b.SetDestinationPort(s.Dst.Port())
	b.SetSequenceNumber(s.Seq)
	b.SetAckNumber(s.Ack)
	b.SetDataOffset(uint8(len(b)))
	b.SetFlags(uint8(s.Flags))
	b.SetWindowSize(s.Window)
	b.SetUrgentPointer(s.Urgent)
	copy(b[tcpLen:], s.Options)
	sum := pseudo(uint8(header.TCPProtocolNumber), s.Src.Addr(), s.Dst.Addr(), len(b)+len(s.Payload))
	if !partial {
		sum = ^vnet.Sum(s.Payload, vnet.Sum(b, sum))
	}
	b.SetChecksum(sum)
	return b
}

// udp returns the header of d.
func (d *Datagram) udp() []byte {
	b := header.UDP(make([]byte, udpLen))
	b.SetSourcePort(d.Src.Port())
	b.SetDestinationPort(d.Dst.Port())
	b.SetLength(uint16(udpLen + len(d.Payload)))
	sum := pseudo(uint8(header.UDPProtocolNumber), d.Src.Addr(), d.Dst.Addr(), udpLen+len(d.Payload))
	sum = ^vnet.Sum(d.Payload, vnet.Sum(b, sum))
	if sum == 0 {
		sum = 0xffff
	}
	b.SetChecksum(sum)
	return b
}

// icmp returns the whole message.
func (m *ICMP) icmp(src, dst netip.Addr) []byte {
	b := make([]byte, 8, 8+len(m.Payload))
	b[0], b[1] = m.Type, m.Code
	binary.BigEndian.PutUint32(b[4:], m.Rest)
	b = append(b, m.Payload...)
	binary.BigEndian.PutUint16(b[2:], ^vnet.Sum(b, icmpPseudo(src, dst, len(b))))
	return b
}

// icmpProto is the protocol number of ICMP in packets to or from a.
func icmpProto(a netip.Addr) uint8 {
	if a.Is4() {
		return uint8(header.ICMPv4ProtocolNumber)
	}
	return uint8(header.ICMPv6ProtocolNumber)
}

// icmpPseudo is the pseudo header's part of an ICMP checksum; only ICMPv6 has one.
func icmpPseudo(src, dst netip.Addr, length int) uint16 {
	if src.Is4() {
		return 0
	}
	return pseudo(uint8(header.ICMPv6ProtocolNumber), src, dst, length)
}

func pseudo(proto uint8, src, dst netip.Addr, length int) uint16 {
	return vnet.PseudoHeaderSum(proto, src.AsSlice(), dst.AsSlice(), uint32(length))
}

// arpRequest asks who has the address target.
func arpRequest(mac [6]byte, ip, target netip.Addr) []byte {
	b := header.ARP(make([]byte, header.ARPSize))
	b.SetIPv4OverEthernet()
	b.SetOp(header.ARPRequest)
	copy(b.HardwareAddressSender(), mac[:])
	copy(b.ProtocolAddressSender(), ip.AsSlice())
	copy(b.ProtocolAddressTarget(), target.AsSlice())
	return b
}
