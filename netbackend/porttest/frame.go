package porttest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// Frame is one frame that the guest received, a copy.
type Frame struct {
	Time    int64       // when, on the guest's clock
	Header  vnet.Header // the virtio-net header
	Bytes   []byte      // from the Ethernet header on, padding included
	Buffers int         // receive buffers that it filled

	TCP  *Segment   // set for a TCP segment,
	UDP  *Datagram  // a UDP datagram,
	ICMP *ICMP      // an ICMP message,
	ARP  header.ARP // or an ARP packet
	// Fragment is set for a fragment. The whole is found in Guest.Datagrams.
	Fragment bool
	// Src and Dst are the addresses of an IP packet.
	Src, Dst netip.Addr
}

// String is one line for a trace.
func (f *Frame) String() string {
	switch {
	case f.TCP != nil:
		return f.TCP.String()
	case f.UDP != nil:
		return fmt.Sprintf("%v > %v UDP len %d", f.UDP.Src, f.UDP.Dst, len(f.UDP.Payload))
	case f.ICMP != nil:
		return fmt.Sprintf("%v > %v ICMP type %d code %d", f.Src, f.Dst, f.ICMP.Type, f.ICMP.Code)
	case f.ARP != nil:
		return fmt.Sprintf("ARP op %d", f.ARP.Op())
	}
	return fmt.Sprintf("frame of %d bytes % x", len(f.Bytes), f.Bytes[:min(len(f.Bytes), 34)])
}

// rules is what a guest may expect of frames.
type rules struct {
	features uint64
	mtu      int
}

// parse reads f.Bytes and returns what is wrong with the frame.
func (f *Frame) parse(r rules) error {
	if err := r.checkHeader(f); err != nil {
		return err
	}
	switch header.Ethernet(f.Bytes).Type() {
	case header.ARPProtocolNumber:
		f.ARP = header.ARP(f.Bytes[etherLen:])
		if !f.ARP.IsValid() {
			return fmt.Errorf("ARP packet is not valid")
		}
	case header.IPv4ProtocolNumber:
		return f.parseIPv4(r)
	case header.IPv6ProtocolNumber:
		return f.parseIPv6(r)
	}
	return nil
}

// checkHeader checks the virtio-net header by itself (virtio 1.2 section 5.1.6.4).
func (r rules) checkHeader(f *Frame) error {
	h := &f.Header
	switch {
	case len(f.Bytes) < vnet.EthernetHeaderLen:
		return fmt.Errorf("frame of %d bytes", len(f.Bytes))
	case len(f.Bytes) < 60:
		return fmt.Errorf("frame of %d bytes is shorter than Ethernet allows", len(f.Bytes))
	case h.Flags&^(vnet.FlagNeedsCSum|vnet.FlagDataValid) != 0:
		return fmt.Errorf("unknown flags %#x", h.Flags)
	case h.Flags != 0 && r.features&vnet.FeatureGuestCSum == 0:
		return fmt.Errorf("flags %#x without GUEST_CSUM", h.Flags)
	case r.features&(vnet.FeatureMrgRxBuf|vnet.FeatureVersion1) != 0 && int(h.NumBuffers) != f.Buffers:
		return fmt.Errorf("num_buffers is %d, but %d were filled", h.NumBuffers, f.Buffers)
	}
	return r.checkGSO(h)
}

func (r rules) checkGSO(h *vnet.Header) error {
	need := map[uint8]uint64{
		vnet.GSONone: 0, vnet.GSOTCPv4: vnet.FeatureGuestTSO4, vnet.GSOTCPv6: vnet.FeatureGuestTSO6,
		vnet.GSOUDPL4: vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6, // which of them is checked with the packet
	}
	bit, known := need[h.GSOType&^vnet.GSOECN]
	switch {
	case !known:
		return fmt.Errorf("unknown GSO type %#x", h.GSOType)
	case bit == 0:
		return nil
	case r.features&bit == 0:
		return fmt.Errorf("GSO type %#x was not acknowledged", h.GSOType)
	case h.GSOType&vnet.GSOECN != 0 && r.features&vnet.FeatureGuestECN == 0:
		return fmt.Errorf("GSO with ECN was not acknowledged")
	case h.Flags&vnet.FlagNeedsCSum == 0:
		return fmt.Errorf("GSO without NEEDS_CSUM")
	case h.GSOSize == 0:
		return fmt.Errorf("GSO with segments of 0 bytes")
	}
	return nil
}

func (f *Frame) parseIPv4(r rules) error {
	ip := header.IPv4(f.Bytes[etherLen:])
	if !ip.IsValid(len(ip)) {
		return fmt.Errorf("IPv4 header is not valid")
	}
	if vnet.Sum(ip[:ip.HeaderLength()], 0) != 0xffff {
		return fmt.Errorf("IPv4 header checksum is wrong")
	}
	total := int(ip.TotalLength())
	if rest := len(ip) - total; rest > 0 && len(f.Bytes) > 60 {
		return fmt.Errorf("%d bytes behind the IPv4 packet", rest)
	}
	if slices.ContainsFunc(ip[total:], func(b byte) bool { return b != 0 }) {
		return fmt.Errorf("padding is not zero")
	}
	if f.Header.GSOType == vnet.GSONone && total > r.mtu {
		return fmt.Errorf("IPv4 packet of %d bytes is longer than the MTU", total)
	}
	f.Src = netip.AddrFrom4([4]byte(ip.SourceAddressSlice()))
	f.Dst = netip.AddrFrom4([4]byte(ip.DestinationAddressSlice()))
	if ip.More() || ip.FragmentOffset() != 0 {
		f.Fragment = true
		return nil
	}
	return f.parseTransport(r, uint8(ip.Protocol()), ip[ip.HeaderLength():total], int(ip.HeaderLength()))
}

func (f *Frame) parseIPv6(r rules) error {
	ip := header.IPv6(f.Bytes[etherLen:])
	if !ip.IsValid(len(ip)) {
		return fmt.Errorf("IPv6 header is not valid")
	}
	total := header.IPv6MinimumSize + int(ip.PayloadLength())
	if total != len(ip) {
		return fmt.Errorf("%d bytes behind the IPv6 packet", len(ip)-total)
	}
	if f.Header.GSOType == vnet.GSONone && total > r.mtu {
		return fmt.Errorf("IPv6 packet of %d bytes is longer than the MTU", total)
	}
	f.Src = netip.AddrFrom16([16]byte(ip.SourceAddressSlice()))
	f.Dst = netip.AddrFrom16([16]byte(ip.DestinationAddressSlice()))
	if ip.NextHeader() == header.IPv6FragmentHeader {
		f.Fragment = true
		return nil
	}
	return f.parseTransport(r, ip.NextHeader(), ip.Payload(), header.IPv6MinimumSize)
}

// parseTransport reads what an IP packet with a header of ipHeader bytes carries.
func (f *Frame) parseTransport(r rules, proto uint8, data []byte, ipHeader int) error {
	if err := f.checkVersion(r); err != nil {
		return err
	}
	switch proto {
	case uint8(header.TCPProtocolNumber):
		return f.parseTCP(data, ipHeader)
	case uint8(header.UDPProtocolNumber):
		return f.parseUDP(r, data, ipHeader)
	case icmpProto(f.Src):
		return f.parseICMP(data)
	}
	return nil
}

// checkVersion checks that an offload is one of the packet's version of IP.
func (f *Frame) checkVersion(r rules) error {
	uso := vnet.FeatureGuestUSO4
	if f.Src.Is6() {
		uso = vnet.FeatureGuestUSO6
	}
	h := &f.Header
	switch h.GSOType &^ vnet.GSOECN {
	case vnet.GSOTCPv4, vnet.GSOTCPv6:
		if f.Src.Is4() != (h.GSOType&^vnet.GSOECN == vnet.GSOTCPv4) {
			return fmt.Errorf("GSO type %#x of another version of IP", h.GSOType)
		}
	case vnet.GSOUDPL4:
		if r.features&uso == 0 {
			return fmt.Errorf("datagrams were put together, which was not acknowledged")
		}
	}
	return nil
}

func (f *Frame) parseTCP(data []byte, ipHeader int) error {
	t := header.TCP(data)
	if len(t) < tcpLen || int(t.DataOffset()) < tcpLen || int(t.DataOffset()) > len(t) {
		return fmt.Errorf("TCP header is not valid")
	}
	f.TCP = &Segment{
		Src: netip.AddrPortFrom(f.Src, t.SourcePort()), Dst: netip.AddrPortFrom(f.Dst, t.DestinationPort()),
		Seq: t.SequenceNumber(), Ack: t.AckNumber(), Flags: t.Flags(),
		Window: t.WindowSize(), Urgent: t.UrgentPointer(), Options: t.Options(), Payload: t.Payload(),
		GSOSize: f.Header.GSOSize,
	}
	if f.Header.GSOType == vnet.GSONone {
		f.TCP.GSOSize = 0
	}
	return f.checkSum(uint8(header.TCPProtocolNumber), data, ipHeader, header.TCPChecksumOffset)
}

func (f *Frame) parseUDP(r rules, data []byte, ipHeader int) error {
	u := header.UDP(data)
	if len(u) < udpLen || int(u.Length()) != len(u) && f.Header.GSOType == vnet.GSONone {
		return fmt.Errorf("UDP header is not valid")
	}
	f.UDP = &Datagram{
		Src: netip.AddrPortFrom(f.Src, u.SourcePort()), Dst: netip.AddrPortFrom(f.Dst, u.DestinationPort()),
		Payload: u.Payload(),
	}
	if f.Header.GSOType != vnet.GSONone {
		f.UDP.GSOSize = f.Header.GSOSize
		if limit := r.mtu - ipHeader - udpLen; int(f.UDP.GSOSize) > limit {
			return fmt.Errorf("datagrams of %d bytes put together, of which the MTU allows %d", f.UDP.GSOSize, limit)
		}
	}
	if u.Checksum() == 0 && f.Src.Is4() { // RFC 8200 section 8.1 wants one
		return nil
	}
	return f.checkSum(uint8(header.UDPProtocolNumber), data, ipHeader, 6)
}

func (f *Frame) parseICMP(data []byte) error {
	if len(data) < 8 || vnet.Sum(data, icmpPseudo(f.Src, f.Dst, len(data))) != 0xffff {
		return fmt.Errorf("ICMP message is not valid")
	}
	f.ICMP = &ICMP{Type: data[0], Code: data[1], Rest: binary.BigEndian.Uint32(data[4:]), Payload: data[8:]}
	return nil
}

// checkSum checks a transport checksum: complete, or, if the header says so, that of the pseudo header.
func (f *Frame) checkSum(proto uint8, data []byte, ipHeader, offset int) error {
	want := pseudo(proto, f.Src, f.Dst, len(data))
	if f.Header.Flags&vnet.FlagNeedsCSum == 0 {
		if f.Header.Flags&vnet.FlagDataValid == 0 && vnet.Sum(data, want) != 0xffff {
			return fmt.Errorf("checksum of protocol %d is wrong", proto)
		}
		return nil
	}
	if int(f.Header.CsumStart) != etherLen+ipHeader || int(f.Header.CsumOffset) != offset {
		return fmt.Errorf("NEEDS_CSUM at %d+%d, not %d+%d", f.Header.CsumStart, f.Header.CsumOffset, etherLen+ipHeader, offset)
	}
	if got := binary.BigEndian.Uint16(data[offset:]); got != want {
		return fmt.Errorf("partial checksum is %#x, not %#x", got, want)
	}
	return nil
}
