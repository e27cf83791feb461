package overheard

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Packet is a packet of IP. It is not changed by anybody.
type Packet struct {
	Protocol int            // as in IP: unix.IPPROTO_TCP
	From, To netip.AddrPort // ports are 0 where the protocol has none, and in fragments but the first
	Payload  []byte         // behind the headers of TCP and UDP, of other protocols behind that of IP
	Whole    []byte         // from the header of IP

	sequence uint32
	flags    byte
}

// flow is a direction of a connection.
type flow struct{ from, to netip.AddrPort }

func (p Packet) flow() flow { return flow{p.From, p.To} }

// opens reports whether it is a SYN.
func (p Packet) opens() bool { return p.flags&synFlag != 0 }

const synFlag = 0x02

// String describes a packet in a line.
func (p Packet) String() string {
	return fmt.Sprintf("protocol %d, %v to %v, %d bytes %.60q", p.Protocol, p.From, p.To, len(p.Payload), p.Payload)
}

// The lengths of headers.
const (
	ethernet = 14
	ipv6     = 40
	udp      = 8
	minTCP   = 20
	minIPv4  = 20
)

// parse reads an Ethernet frame. What is not IP, or too short to be, is no packet.
func parse(frame []byte) (p Packet, ok bool) {
	if len(frame) < ethernet {
		return p, false
	}
	switch data := frame[ethernet:]; binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return parse4(data)
	case unix.ETH_P_IPV6:
		return parse6(data)
	}
	return p, false
}

func parse4(data []byte) (p Packet, ok bool) {
	if len(data) < minIPv4 {
		return p, false
	}
	header, total := int(data[0]&0xf)*4, int(binary.BigEndian.Uint16(data[2:]))
	if total < header || total > len(data) {
		total = len(data)
	}
	if header < minIPv4 || header > total {
		return p, false
	}
	p = Packet{Protocol: int(data[9]), Whole: data[:total]}
	from, to := netip.AddrFrom4([4]byte(data[12:])), netip.AddrFrom4([4]byte(data[16:]))
	later := binary.BigEndian.Uint16(data[6:])&0x1fff != 0
	p.transport(from, to, data[header:total], later)
	return p, true
}

// parse6 reads a packet of IPv6. One with extension headers has the first of them as its protocol.
func parse6(data []byte) (p Packet, ok bool) {
	if len(data) < ipv6 {
		return p, false
	}
	p = Packet{Protocol: int(data[6]), Whole: data}
	p.transport(netip.AddrFrom16([16]byte(data[8:])), netip.AddrFrom16([16]byte(data[24:])), data[ipv6:], false)
	return p, true
}

// transport reads the header behind that of IP; later is a fragment that has none.
func (p *Packet) transport(from, to netip.Addr, data []byte, later bool) {
	p.From, p.To, p.Payload = netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0), data
	header := udp
	switch {
	case later || p.Protocol != unix.IPPROTO_TCP && p.Protocol != unix.IPPROTO_UDP:
		return
	case p.Protocol == unix.IPPROTO_TCP:
		if len(data) < minTCP {
			return
		}
		header = int(data[12]>>4) * 4
		p.sequence, p.flags = binary.BigEndian.Uint32(data[4:]), data[13]
	}
	if header < udp || header > len(data) {
		return
	}
	p.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(data))
	p.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(data[2:]))
	p.Payload = data[header:]
}
