package integration

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The addresses of the guest that frames of the test's own come from.
var (
	guestIP  = netip.MustParseAddr("10.0.2.15")
	guestIP6 = netip.MustParseAddr("fd00:10:0:2::15")
)

// routerMAC is the router's address by default, and cardMAC that of the guest's card.
var (
	routerMAC = []byte{0x52, 0x55, 10, 0, 2, 2}
	cardMAC   = []byte{0x52, 0x54, 0, 0x12, 0x34, 0x15}
)

// Flags of TCP.
const (
	finFlag = 1 << iota
	synFlag
	rstFlag
	pshFlag
	ackFlag
	urgFlag
)

// sum adds to the checksum of IP.
func sum(data []byte) (s uint32) {
	for i := 0; i+1 < len(data); i += 2 {
		s += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	if len(data)%2 == 1 {
		s += uint32(data[len(data)-1]) << 8
	}
	return s
}

// folded is the checksum of a sum.
func folded(s uint32) uint16 {
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// routedFrame puts a packet of IP into a frame to the router.
func routedFrame(packet []byte) []byte {
	kind := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		kind = unix.ETH_P_IPV6
	}
	return append(binary.BigEndian.AppendUint16(append(append([]byte{}, routerMAC...), cardMAC...), kind), packet...)
}

// datagramIP is a packet from one address to another; more is for IPv4: the field of the fragment.
func datagramIP(from, to netip.Addr, protocol byte, payload []byte, more uint16) []byte {
	if to.Is6() {
		p := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(payload)))
		p = append(append(p, protocol, 64), from.AsSlice()...)
		return append(append(p, to.AsSlice()...), payload...)
	}
	p := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(payload)))
	p = binary.BigEndian.AppendUint16(append(p, 0x13, 0x37), more)
	p = append(append(p, 64, protocol, 0, 0), from.AsSlice()...)
	p = append(p, to.AsSlice()...)
	binary.BigEndian.PutUint16(p[10:], folded(sum(p)))
	return append(p, payload...)
}

// pseudo is the sum of what of IP counts for the checksums of TCP and UDP.
func pseudo(from, to netip.Addr, protocol byte, n int) uint32 {
	return sum(from.AsSlice()) + sum(to.AsSlice()) + uint32(protocol) + uint32(n)
}

// udpPacket is a datagram.
func udpPacket(from, to netip.AddrPort, payload string) []byte {
	p := binary.BigEndian.AppendUint16(nil, from.Port())
	p = binary.BigEndian.AppendUint16(p, to.Port())
	p = binary.BigEndian.AppendUint16(p, uint16(8+len(payload)))
	p = append(append(p, 0, 0), payload...)
	binary.BigEndian.PutUint16(p[6:], folded(pseudo(from.Addr(), to.Addr(), unix.IPPROTO_UDP, len(p))+sum(p)))
	return p
}

// tcpSegment is a segment, with a window of 65535 bytes.
func tcpSegment(from, to netip.AddrPort, flags byte, seq, ack uint32, urgent uint16, options []byte, payload string) []byte {
	p := binary.BigEndian.AppendUint16(nil, from.Port())
	p = binary.BigEndian.AppendUint16(p, to.Port())
	p = binary.BigEndian.AppendUint32(p, seq)
	p = binary.BigEndian.AppendUint32(p, ack)
	p = append(p, byte(5+len(options)/4)<<4, flags, 0xff, 0xff, 0, 0)
	p = binary.BigEndian.AppendUint16(p, urgent)
	p = append(append(p, options...), payload...)
	binary.BigEndian.PutUint16(p[16:], folded(pseudo(from.Addr(), to.Addr(), unix.IPPROTO_TCP, len(p))+sum(p)))
	return p
}

// send sends a packet of IP from the guest beside its kernel.
func (x *escape) send(packets ...[]byte) {
	x.t.Helper()
	for _, p := range packets {
		require.NoError(x.t, x.guest.Send(routedFrame(p)))
	}
}

// sendAs sends a packet of a protocol of IP to an address.
func (x *escape) sendAs(protocol byte, to, payload string) {
	x.t.Helper()
	address, from := netip.MustParseAddr(to), guestIP
	if address.Is6() {
		from = guestIP6
	}
	x.send(datagramIP(from, address, protocol, []byte(payload), 0))
}

// sendUDP sends a datagram from a port of the guest's.
func (x *escape) sendUDP(port uint16, to, payload string) {
	x.t.Helper()
	address, from := netip.MustParseAddrPort(to), guestIP
	if address.Addr().Is6() {
		from = guestIP6
	}
	x.send(datagramIP(from, address.Addr(), unix.IPPROTO_UDP, udpPacket(netip.AddrPortFrom(from, port), address, payload), 0))
}

// rawTCP is a connection of the guest that its kernel does not know.
type rawTCP struct {
	x        *escape
	from, to netip.AddrPort
	seq, ack uint32 // the next of the guest's, and what it expects
	frames   <-chan []byte
	end      func()
}

// rawSequence is where the guest's stream begins.
const rawSequence = 1000

// openRaw sends a SYN with data, and waits until it is answered; seq is 0 if it is not acknowledged.
func (x *escape) openRaw(port uint16, to, data string, options []byte) *rawTCP {
	x.t.Helper()
	r := &rawTCP{x: x, from: netip.AddrPortFrom(guestIP, port), to: netip.MustParseAddrPort(to), seq: rawSequence}
	r.frames, r.end = x.guest.Divert(func(frame []byte) bool {
		return len(frame) >= 54 && frame[23] == unix.IPPROTO_TCP && binary.BigEndian.Uint16(frame[36:]) == port
	})
	r.segment(synFlag, 0, 0, options, data)
	for {
		select {
		case frame := <-r.frames:
			if flags := frame[47]; flags&(synFlag|ackFlag) == synFlag|ackFlag {
				r.seq, r.ack = binary.BigEndian.Uint32(frame[42:]), binary.BigEndian.Uint32(frame[38:])+1
				r.segment(ackFlag, 0, 0, nil, "")
				return r
			} else if flags&rstFlag != 0 {
				r.seq = 0
				return r
			}
		case <-time.After(patience):
			r.seq = 0
			return r
		}
	}
}

// segment sends a segment whose sequence number is the next one and offset.
func (r *rawTCP) segment(flags byte, offset int, urgent uint16, options []byte, data string) {
	r.x.t.Helper()
	segment := tcpSegment(r.from, r.to, flags, r.seq+uint32(offset), r.ack, urgent, options, data)
	r.x.send(datagramIP(r.from.Addr(), r.to.Addr(), unix.IPPROTO_TCP, segment, 0))
}
