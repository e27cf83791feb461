package natguest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// Fragment is one fragment of an IPv4 packet (RFC 791 section 3.2). All fields are sent as they are.
type Fragment struct {
	Proto    uint8
	Src, Dst netip.Addr
	ID       uint16
	Offset   int // in bytes, a multiple of 8
	More     bool
	Payload  []byte
}

// Cut returns d in fragments that carry size bytes each, which is a multiple of 8.
func (d *Datagram) Cut(id uint16, size int) (fragments []Fragment) {
	whole := append(d.udp(), d.Payload...)
	for at := 0; at < len(whole); at += size {
		end := min(at+size, len(whole))
		fragments = append(fragments, Fragment{
			Proto: uint8(header.UDPProtocolNumber), Src: d.Src.Addr(), Dst: d.Dst.Addr(),
			ID: id, Offset: at, More: end < len(whole), Payload: whole[at:end],
		})
	}
	return fragments
}

// SendFragment sends f.
func (g *Guest) SendFragment(f Fragment, layout ...Layout) {
	g.Resolve()
	g.SendFrame(f.frame(g.gateMAC, g.MAC), layout...)
}

// frame returns the frame from src to dst that carries f.
func (f *Fragment) frame(dst, src [6]byte) []byte {
	b := ethernet(dst, src, 0x0800, ipv4(f.Proto, f.Src, f.Dst, len(f.Payload)), f.Payload)
	ip := header.IPv4(b[etherLen:])
	ip.SetID(f.ID)
	flags := uint8(0)
	if f.More {
		flags = header.IPv4FlagMoreFragments
	}
	ip.SetFlagsFragmentOffset(flags, uint16(f.Offset))
	ip.SetChecksum(0)
	ip.SetChecksum(^vnet.Sum(ip[:ipLen], 0))
	return b
}

// partial is a datagram that the guest receives in fragments.
type partial struct {
	src, dst netip.Addr
	id       uint16
}

// reassemble appends the fragment in f to those before it. A sender over a wire that keeps order has no reason to send
// them in another one. It returns the datagram when it is complete.
func (g *Guest) reassemble(f *Frame) (*Datagram, error) {
	ip := header.IPv4(f.Bytes[etherLen:])
	if ip.Flags()&header.IPv4FlagDontFragment != 0 || f.Header.Flags != 0 {
		return nil, fmt.Errorf("fragment with \"don't fragment\" or an offload")
	}
	key := partial{f.Src, f.Dst, ip.ID()}
	before := g.partials[key]
	if int(ip.FragmentOffset()) != len(before) {
		return nil, fmt.Errorf("fragment at %d instead of %d", ip.FragmentOffset(), len(before))
	}
	whole := append(before, ip[ip.HeaderLength():ip.TotalLength()]...)
	if ip.More() {
		g.partials[key] = whole
		return nil, nil
	}
	delete(g.partials, key)
	if length := int(binary.BigEndian.Uint16(whole[4:])); length != len(whole) {
		return nil, fmt.Errorf("UDP length is %d in a datagram of %d bytes", length, len(whole))
	}
	d := Frame{Src: f.Src, Dst: f.Dst}
	err := d.parseUDP(rules{mtu: g.opt.MTU}, whole, int(ip.HeaderLength()))
	return d.UDP, err
}
