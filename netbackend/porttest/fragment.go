package porttest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// Fragment is one fragment of a packet (RFC 791 section 3.2, RFC 8200 section 4.5). All fields are sent as they are.
type Fragment struct {
	Proto    uint8
	Src, Dst netip.Addr
	ID       uint32 // of which IPv4 has 16 bits
	Offset   int    // in bytes, a multiple of 8
	More     bool
	Payload  []byte
}

// Cut returns d in fragments that carry size bytes each, which is a multiple of 8.
func (d *Datagram) Cut(id uint32, size int) (fragments []Fragment) {
	f := Fragment{Proto: uint8(header.UDPProtocolNumber), Src: d.Src.Addr(), Dst: d.Dst.Addr(), ID: id}
	return cut(f, append(d.udp(), d.Payload...), size)
}

// cut returns fragments like f of a whole packet.
func cut(f Fragment, whole []byte, size int) (fragments []Fragment) {
	for at := 0; at < len(whole); at += size {
		end := min(at+size, len(whole))
		f.Offset, f.More, f.Payload = at, end < len(whole), whole[at:end]
		fragments = append(fragments, f)
	}
	return fragments
}

// CutICMP returns a message from the guest to dst in fragments, as Cut does.
func (g *Guest) CutICMP(dst netip.Addr, m ICMP, id uint32, size int) (fragments []Fragment) {
	src := g.Source(dst)
	return cut(Fragment{Proto: icmpProto(dst), Src: src, Dst: dst, ID: id}, m.icmp(src, dst), size)
}

// SendFragment sends f.
func (g *Guest) SendFragment(f Fragment, layout ...Layout) {
	g.Resolve()
	g.SendFrame(f.frame(g.gateMAC, g.MAC), layout...)
}

// frame returns the frame from src to dst that carries f.
func (f *Fragment) frame(dst, src [6]byte) []byte {
	if f.Dst.Is6() {
		return ethernet(dst, src, 0x86dd, ipv6(uint8(header.IPv6FragmentHeader), f.Src, f.Dst, fragmentHeader+len(f.Payload)), f.header6(), f.Payload)
	}
	b := ethernet(dst, src, 0x0800, ipv4(f.Proto, f.Src, f.Dst, len(f.Payload)), f.Payload)
	ip := header.IPv4(b[etherLen:])
	ip.SetID(uint16(f.ID))
	flags := uint8(0)
	if f.More {
		flags = header.IPv4FlagMoreFragments
	}
	ip.SetFlagsFragmentOffset(flags, uint16(f.Offset))
	ip.SetChecksum(0)
	ip.SetChecksum(^vnet.Sum(ip[:header.IPv4MinimumSize], 0))
	return b
}

const fragmentHeader = header.IPv6FragmentHeaderSize

// header6 returns the extension header that an IPv6 fragment has.
func (f *Fragment) header6() []byte {
	field := uint16(f.Offset)
	if f.More {
		field |= 1
	}
	b := binary.BigEndian.AppendUint16([]byte{f.Proto, 0}, field)
	return binary.BigEndian.AppendUint32(b, f.ID)
}

// partial is a datagram that the guest receives in fragments.
type partial struct {
	src, dst netip.Addr
	id       uint32
}

// received reads a fragment that the guest has received.
func (f *Frame) received() (r Fragment, err error) {
	r.Src, r.Dst = f.Src, f.Dst
	if f.Header.Flags != 0 {
		return r, fmt.Errorf("fragment with an offload")
	}
	if f.Src.Is6() {
		b := header.IPv6(f.Bytes[etherLen:]).Payload()
		field := binary.BigEndian.Uint16(b[2:])
		r.Proto, r.ID, r.Offset, r.More, r.Payload = b[0], binary.BigEndian.Uint32(b[4:]), int(field&^7), field&1 != 0, b[fragmentHeader:]
		return r, nil
	}
	ip := header.IPv4(f.Bytes[etherLen:])
	if ip.Flags()&header.IPv4FlagDontFragment != 0 {
		return r, fmt.Errorf("fragment with \"don't fragment\"")
	}
	r.Proto, r.ID, r.Offset, r.More = uint8(ip.Protocol()), uint32(ip.ID()), int(ip.FragmentOffset()), ip.More()
	r.Payload = ip[ip.HeaderLength():ip.TotalLength()]
	return r, nil
}

// reassemble appends the fragment in f to those before it. A sender over a wire that keeps order has no reason to send
// them in another one. It returns what the packet was when it is complete.
func (g *Guest) reassemble(f *Frame) (*Frame, error) {
	r, err := f.received()
	if err != nil {
		return nil, err
	}
	key := partial{r.Src, r.Dst, r.ID}
	before := g.partials[key]
	if r.Offset != len(before) {
		return nil, fmt.Errorf("fragment at %d instead of %d", r.Offset, len(before))
	}
	whole := append(before, r.Payload...)
	if r.More {
		g.partials[key] = whole
		return nil, nil
	}
	delete(g.partials, key)
	d := &Frame{Time: f.Time, Src: f.Src, Dst: f.Dst}
	if r.Proto == icmpProto(f.Dst) {
		return d, d.parseICMP(whole)
	}
	if length := int(binary.BigEndian.Uint16(whole[4:])); length != len(whole) {
		return nil, fmt.Errorf("UDP length is %d in a datagram of %d bytes", length, len(whole))
	}
	return d, d.parseUDP(rules{mtu: g.opt.MTU}, whole, ipLen(f.Dst))
}

// CutSegment returns s in fragments, as Datagram.Cut does.
func (g *Guest) CutSegment(s *Segment, id uint32, size int) (fragments []Fragment) {
	f := Fragment{Proto: uint8(header.TCPProtocolNumber), Src: s.Src.Addr(), Dst: s.Dst.Addr(), ID: id}
	return cut(f, append(s.tcp(false), s.Payload...), size)
}
