package nat_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	etherLen = 14
	ipLen    = 20
)

// ether returns a frame of n bytes of the given type, from the guest to the gateway, that is full of noise.
func (h *hostile) ether(etherType uint16, n int) []byte {
	b := h.IPv4(udp, h.IP, h.Gateway, noise(65536))[:max(n, etherLen)]
	copy(b[etherLen:], noise(n))
	binary.BigEndian.PutUint16(b[12:], etherType)
	return b[:n]
}

// packet returns a frame with an IPv4 packet, after change has spoiled it. change gets the packet.
func (h *hostile) packet(proto uint8, payload []byte, change func(ip []byte)) []byte {
	b := h.IPv4(proto, h.IP, h.Gateway, payload)
	change(b[etherLen:])
	return b
}

func TestS1FramesOfAnyLengthAreSurvived(t *testing.T) {
	h := newHostile(t, setup{})
	for _, n := range []int{1515, 1516, 2048, 4096, 16384, 65535, 65549, 65550} {
		h.counted(1, unsupported, func() { h.SendFrame(h.ether(0x88b5, n)) })
	}
}

// A chain can be far longer than any frame.
func TestG1AChainLongerThanAnyFrameIsSurvived(t *testing.T) {
	h := newHostile(t, setup{guest: porttest.Options{MaxFrame: 200 << 10}})
	long := make([]byte, 128<<10)
	h.counted(1, malformed, func() { h.SendFrame(append(h.ether(0x0806, 42), long...)) })
	h.counted(1, malformed, func() { h.SendFrame(append(h.packet(icmp, []byte{8, 0, 0, 0, 0, 0, 0, 0}, func([]byte) {}), long...)) })
	d := h.datagram(noise(100))
	h.answered(func() {
		h.SendFrame(append(h.IPv4(udp, d.Src.Addr(), d.Dst.Addr(), udpHeader(&d), d.Payload), long...))
	}, d.Payload)
}

// What follows the IPv4 packet in a long frame is not part of it.
func TestS1WhatFollowsAPacketIsLeftOut(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(100))
	h.answered(func() {
		h.SendFrame(append(h.IPv4(udp, d.Src.Addr(), d.Dst.Addr(), udpHeader(&d), d.Payload), noise(60_000)...))
	}, d.Payload)
}

// udpHeader returns the header of d without a checksum.
func udpHeader(d *porttest.Datagram) []byte {
	b := binary.BigEndian.AppendUint16(nil, d.Src.Port())
	b = binary.BigEndian.AppendUint16(b, d.Dst.Port())
	return binary.BigEndian.AppendUint16(b, uint16(8+len(d.Payload)))[:8:8]
}

// The answer to a longer one would not fit the guest.
func TestS1EchoRequestsLongerThanTheMTUAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	for _, n := range []int{1473, 9000, longest} {
		h.counted(1, malformed, func() { h.SendICMP(h.Gateway, porttest.ICMP{Type: 8, Payload: noise(n)}) })
	}
}

// Virtio can carry a datagram in one frame that is longer than the MTU. It harms nobody.
func TestS1ADatagramLongerThanTheMTUPasses(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(longest))
	h.answered(func() { h.SendDatagram(d) }, d.Payload)
}

func TestS2P2ImpossibleSourcesAndPortsAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	zero := netip.IPv4Unspecified()
	for name, c := range map[string]struct{ src, dst netip.AddrPort }{
		"no source at all":      {netip.AddrPortFrom(zero, 0), h.echo},
		"no source address":     {netip.AddrPortFrom(zero, 5000), h.echo},
		"no source port":        {netip.AddrPortFrom(h.IP, 0), h.echo},
		"no destination port":   {netip.AddrPortFrom(h.IP, 5000), netip.AddrPortFrom(h.Gateway, 0)},
		"the gateway's address": {netip.AddrPortFrom(h.Gateway, 5000), h.echo},
	} {
		t.Run(name, func(t *testing.T) {
			h.counted(1, badAddress, func() { h.SendDatagram(porttest.Datagram{Src: c.src, Dst: c.dst, Payload: noise(9)}) })
			for _, flags := range []header.TCPFlags{porttest.SYN, porttest.SYN | porttest.ACK, porttest.ACK, porttest.FIN, porttest.RST} {
				h.counted(1, badAddress, func() {
					h.SendSegment(porttest.Segment{Src: c.src, Dst: c.dst, Flags: flags})
				})
			}
		})
	}
}

// Nor is the sender told that they are unreachable (RFC 1122 section 3.2.2).
func TestP5DatagramsToManyGoNowhere(t *testing.T) {
	h := newHostile(t, setup{})
	for to, counter := range map[string]func(nat.Counters) uint64{
		"224.0.0.251": multicast, "239.255.255.250": multicast, "255.255.255.255": broadcast, "10.0.2.255": broadcast,
		"240.0.0.1": badAddress,
	} {
		h.counted(1, counter, func() {
			h.SendDatagram(porttest.Datagram{
				Src: netip.AddrPortFrom(h.IP, 5353), Dst: netip.AddrPortFrom(netip.MustParseAddr(to), 5353), Payload: noise(9),
			})
		})
	}
}

func TestS12FramesThatAreTooShortAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	for n := range etherLen {
		h.counted(1, malformed, func() { h.SendFrame(h.ether(0x0806, n)) })
	}
	const arpLen = 28
	for n := etherLen; n < etherLen+arpLen; n++ {
		h.counted(1, malformed, func() { h.SendFrame(h.ether(0x0806, n)) })
		h.counted(1, unsupported, func() { h.SendFrame(h.ether(0x88f8, n)) }) // NC-SI
	}
}

func TestS12ARPPacketsThatLieAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	good := h.ether(0x0806, 42)
	copy(good[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(good[22:], h.MAC[:])
	copy(good[28:], h.IP.AsSlice())
	copy(good[38:], h.Gateway.AsSlice())
	h.SendFrame(good)
	h.Until("the good one is answered", func() bool { return len(h.Frames()) == 1 })
	for name, change := range map[string]func([]byte){
		"hardware type":             func(b []byte) { b[15] = 6 },
		"protocol":                  func(b []byte) { b[16] = 0x86 },
		"length of a MAC address":   func(b []byte) { b[18] = 255 },
		"length of an IP address":   func(b []byte) { b[19] = 16 },
		"sender is a group":         func(b []byte) { b[22] |= 1 },
		"sender is nobody":          func(b []byte) { clear(b[22:28]) },
		"sender has the gateway's":  func(b []byte) { copy(b[28:], h.Gateway.AsSlice()) },
		"sender has the resolver's": func(b []byte) { copy(b[28:], []byte{10, 0, 2, 3}) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := append([]byte(nil), good...)
			change(bad)
			h.counted(1, malformed, func() { h.SendFrame(bad) })
		})
	}
}

func TestS13P7LengthsThatContradictEachOtherAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	put := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint16(b[at:], v) }
	}
	d := h.datagram(noise(50))
	datagram := append(udpHeader(&d), d.Payload...)
	segment := make([]byte, 40)
	copy(segment, []byte{0x80, 0, 0x81, 0})
	segment[12] = 10 << 4
	for _, c := range []struct {
		name    string
		proto   uint8
		payload []byte
		change  func(ip []byte)
	}{
		{"IP version", udp, datagram, func(b []byte) { b[0] = 0x65 }},
		{"IP header of 16 bytes", udp, datagram, func(b []byte) { b[0] = 0x44 }},
		{"IP header longer than the packet", udp, nil, func(b []byte) { b[0] = 0x4f }},
		{"packet shorter than its header", udp, datagram, put(2, 19)},
		{"empty packet", udp, datagram, put(2, 0)},
		{"packet longer than the frame by one", udp, datagram, put(2, 20+8+50+1)},
		{"packet as long as can be", udp, datagram, put(2, 65535)},
		{"UDP header cut off", udp, datagram, put(2, 20+7)},
		{"UDP without a header", udp, datagram, put(2, 20)},
		{"UDP length shorter than its header", udp, datagram, put(ipLen+4, 7)},
		{"UDP length 0", udp, datagram, put(ipLen+4, 0)},
		{"UDP length beyond the packet by one", udp, datagram, put(ipLen+4, 8+50+1)},
		{"UDP length as long as can be", udp, datagram, put(ipLen+4, 65535)},
		{"TCP header cut off", tcp, segment, put(2, 20+19)},
		{"TCP header of 16 bytes", tcp, segment, func(b []byte) { b[ipLen+12] = 4 << 4 }},
		{"TCP header longer than the packet", tcp, segment, func(b []byte) { b[ipLen+12] = 11 << 4 }},
		{"TCP header as long as can be", tcp, segment, func(b []byte) { b[ipLen+12] = 15 << 4 }},
		{"ICMP header cut off", icmp, datagram, put(2, 20+7)},
		{"ICMP without a header", icmp, datagram, put(2, 20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.counted(1, malformed, func() { h.SendFrame(h.packet(c.proto, c.payload, c.change)) })
		})
	}
}

// The answer is as long as the request, whatever stood behind that, and what fills it up is zero.
func TestS11AnAnswerHoldsNoStaleMemory(t *testing.T) {
	h := newHostile(t, setup{})
	h.SendICMP(h.Gateway, porttest.ICMP{Type: 8, Payload: noise(1400)})
	h.Settle()
	for _, n := range []int{0, 1, 17, 18} {
		h.Frames()
		m := porttest.ICMP{Type: 8, Rest: 7, Payload: noise(n)}
		frame := h.IPv4(icmp, h.IP, h.Gateway, []byte{8, 0, 0, 0, 0, 0, 0, 7}, m.Payload)
		h.SendFrame(append(frame, noise(500)...))
		h.Settle()
		f := h.Frames()
		require.Len(t, f, 1)
		requireSame(t, m.Payload, f[0].ICMP.Payload)
		require.Len(t, f[0].Bytes, max(60, etherLen+ipLen+8+n))
	}
}

func TestAVirtioNetHeaderThatLiesIsDropped(t *testing.T) {
	h := newHostile(t, setup{})
	frame := h.IPv4(udp, h.IP, h.Gateway, noise(100))
	for name, lie := range map[string]vnet.Header{
		"checksum behind the frame":          {Flags: vnet.FlagNeedsCSum, CsumStart: 65535, CsumOffset: 65535},
		"checksum field behind the frame":    {Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 99},
		"segments without a checksum":        {GSOType: vnet.GSOTCPv4, GSOSize: 1000, HdrLen: 54},
		"segments of no bytes":               {Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4},
		"segments of another version of IP":  {Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv6, GSOSize: 8},
		"segments of an unknown kind":        {Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 6, GSOType: 99, GSOSize: 8},
		"fragments, which nobody negotiated": {Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 6, GSOType: 3, GSOSize: 8},
	} {
		t.Run(name, func(t *testing.T) { h.counted(1, badHeader, func() { h.SendRaw(lie, frame) }) })
	}
}

func TestSegmentsThatWereNotNegotiatedAreDropped(t *testing.T) {
	h := newHostile(t, setup{guest: porttest.Options{Features: leastOffers(t)&^vnet.FeatureHostTSO4 | vnet.FeatureVersion1}})
	large := vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4, GSOSize: 8}
	h.counted(1, badHeader, func() { h.SendRaw(large, h.IPv4(tcp, h.IP, h.Gateway, noise(100))) })
}

// A frame may come in the smallest pieces, but then it costs no more than its pieces.
func TestP8OneByteDescriptorsAreSurvived(t *testing.T) {
	h := newHostile(t, setup{guest: porttest.Options{
		RingSize: 1024, // no chain is longer than the ring
		Features: leastOffers(t) | vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureIndirectDesc,
	}})
	bytes := porttest.OneByte(1000)
	bytes.Indirect = true
	d := h.datagram(noise(900))
	for range 20 {
		h.answered(func() {
			h.SendDatagram(d, bytes)
		}, d.Payload)
	}
	for range 20 {
		h.good.SendNext(h.good.Segment(porttest.ACK, noise(900)), bytes)
		requireSame(t, noise(900), h.readSome(h.host, 900))
	}
}
