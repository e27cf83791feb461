package integration

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// byPackets are ways by packets that programs do not send.
func byPackets() []way {
	protocol := func(number byte) func(*escape) {
		return func(x *escape) { x.sendAs(number, evilAddress, x.secret+strings.Repeat("x", 40)) }
	}
	const noProtocol = "vring has TCP, UDP and echo"
	// A connection to good.example's server, by hand; each way says what is sent on it.
	raw := func(port uint16, to string, do func(x *escape, r *rawTCP)) func(*escape) {
		return func(x *escape) {
			x.lookUp("good.example")
			r := x.openRaw(port, to, "", nil)
			defer r.end()
			if r.seq == 0 {
				return // refused
			}
			do(x, r)
			x.barrier()
			r.segment(rstFlag, 1<<20, 0, nil, "")
		}
	}
	good := func(x *escape) string { return clientHello(x.t, x.web.client("good.example"), nil) }
	other := func(x *escape) string { return clientHello(x.t, x.web.client("other.example"), nil) }
	const text = pshFlag | ackFlag
	return []way{
		{name: "a ping", try: func(x *escape) { x.ping(evilAddress, x.secret) }},
		{name: "a ping of a server that a rule names", try: func(x *escape) {
			x.lookUp("good.example")
			x.ping(goodAddress, x.secret)
		}},
		{name: "a ping of IPv6", try: func(x *escape) { x.ping(evilAddress6, x.secret) }},
		{name: "an answer to a ping", try: func(x *escape) { x.sendICMP(evilAddress, 0, 0, x.secret) }, always: noProtocol},
		{name: "a request for the time by ICMP", try: func(x *escape) { x.sendICMP(evilAddress, 13, 0, x.secret) }, always: noProtocol},
		{name: "an error of ICMP about nothing", try: func(x *escape) {
			x.sendICMP(evilAddress, 3, 3, string(datagramIP(addressOf(evilAddress), guestIP, 17, udpPacket(netip.MustParseAddrPort(evilAddress+":53"),
				netip.AddrPortFrom(guestIP, 5353), x.secret), 0)))
		}, always: noProtocol},
		{name: "SCTP", try: protocol(132), always: noProtocol},
		{name: "GRE", try: protocol(47), always: noProtocol},
		{name: "ESP", try: protocol(50), always: noProtocol},
		{name: "AH", try: protocol(51), always: noProtocol},
		{name: "IP in IP", try: protocol(4), always: noProtocol},
		{name: "IPv6 in IPv4", try: protocol(41), always: noProtocol},
		{name: "UDP-Lite", try: protocol(136), always: noProtocol},
		{name: "DCCP", try: protocol(33), always: noProtocol},
		{name: "IGMP", try: protocol(2), always: noProtocol},
		{name: "a protocol that nobody knows", try: protocol(253), always: noProtocol},
		{name: "a route in the header of IP", try: func(x *escape) {
			p := datagramIP(guestIP, addressOf(goodAddress), 17, nil, 0)
			p[0] = 0x47
			p = append(p[:20], append([]byte{131, 7, 4}, append(addressOf(evilAddress).AsSlice(), 0)...)...)
			p = append(p, udpPacket(netip.AddrPortFrom(guestIP, 5000), netip.MustParseAddrPort(goodAddress+":9"), x.secret)...)
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
			p[10], p[11] = 0, 0
			binary.BigEndian.PutUint16(p[10:], folded(sum(p[:28])))
			x.send(p)
		}},
		{name: "a datagram in fragments", try: func(x *escape) { x.fragmented(9999) }},
		{name: "fragments that overlap, to hide the port", try: func(x *escape) {
			whole := udpPacket(netip.AddrPortFrom(guestIP, 5000), netip.MustParseAddrPort(timeAddress+":123"), strings.Repeat(x.secret, 4))
			forged := append([]byte(nil), whole[:16]...)
			binary.BigEndian.PutUint16(forged[2:], 9999)
			x.send(datagramIP(guestIP, addressOf(timeAddress), 17, whole[:16], 0x2000),
				datagramIP(guestIP, addressOf(timeAddress), 17, forged, 0x2000), datagramIP(guestIP, addressOf(timeAddress), 17, whole[16:], 2))
		}, always: "fragments that overlap are dropped"},
		{name: "the beginning of a connection in fragments", try: func(x *escape) {
			from, to := netip.AddrPortFrom(guestIP, 5001), netip.MustParseAddrPort(evilAddress+":443")
			s := tcpSegment(from, to, synFlag, 1, 0, 0, nil, "")
			x.send(datagramIP(guestIP, to.Addr(), 6, s[:8], 0x2000), datagramIP(guestIP, to.Addr(), 6, s[8:], 1))
			x.send(datagramIP(guestIP, to.Addr(), 6, tcpSegment(from, to, rstFlag, 2, 0, 0, nil, ""), 0))
		}},
		{name: "the address of another guest", try: func(x *escape) { x.spoofed("10.0.2.16") }, always: "a guest has its own addresses"},
		{name: "the address of the host", try: func(x *escape) { x.spoofed(egressHost) }},
		{name: "the address of the loopback", try: func(x *escape) { x.spoofed("127.0.0.1") }, always: "a guest has its own addresses"},
		{name: "the address of a server that a rule names", try: func(x *escape) { x.spoofed(goodAddress) }},
		{name: "a frame with a tag of a VLAN", try: func(x *escape) {
			frame := routedFrame(datagramIP(guestIP, addressOf(evilAddress), 17, udpPacket(netip.AddrPortFrom(guestIP, 5000), netip.MustParseAddrPort(evilAddress+":9"), x.secret), 0))
			require.NoError(x.t, x.guest.Send(append(append(frame[:12:12], 0x81, 0, 0, 5), frame[12:]...)))
		}, always: "tags are not read"},
		{name: "multicast DNS", try: func(x *escape) { x.sendUDP(5353, "224.0.0.251:5353", x.secret) }, always: "groups are closed"},
		{name: "multicast DNS of IPv6", try: func(x *escape) { x.sendUDP(5353, "[ff02::fb]:5353", x.secret) }, always: "groups are closed"},
		{name: "LLMNR", try: func(x *escape) { x.sendUDP(5355, "224.0.0.252:5355", x.secret) }, always: "groups are closed"},
		{name: "SSDP", try: func(x *escape) { x.sendUDP(1900, "239.255.255.250:1900", x.secret) }, always: "groups are closed"},
		{name: "NetBIOS to everybody", try: func(x *escape) { x.sendUDP(137, "10.0.2.255:137", x.secret) }, always: "nobody is there"},
		{name: "a datagram to everybody", try: func(x *escape) { x.sendUDP(68, "255.255.255.255:68", x.secret) }, always: "nobody is there"},
		{name: "a name in a request for a lease", try: func(x *escape) { x.askLease() }, always: "vring answers itself"},
		{name: "a request for a port by PCP", try: func(x *escape) {
			x.sendUDP(5350, "10.0.2.2:5351", "\x02\x01\x00\x00"+strings.Repeat("\x00", 20)+x.secret)
		}, always: "vring has no such service"},
		{name: "a request for a port by NAT-PMP", try: func(x *escape) {
			x.sendUDP(5350, "10.0.2.2:5351", "\x00\x01\x00\x00\x1f\x90\x1f\x90\x00\x00\x0e\x10")
		}, always: "vring has no such service"},
		{name: "a connection that both begin", try: func(x *escape) {
			s := tcpSegment(netip.AddrPortFrom(guestIP, 5002), netip.MustParseAddrPort(evilAddress+":443"), synFlag|ackFlag, 1, 1, 0, nil, x.secret)
			x.send(datagramIP(guestIP, addressOf(evilAddress), 6, s, 0))
		}, always: "an answer to nothing is refused"},
		{name: "a segment of no connection", try: func(x *escape) {
			s := tcpSegment(netip.AddrPortFrom(guestIP, 5003), netip.MustParseAddrPort(goodAddress+":443"), text, 1, 1, 0, nil, x.secret)
			x.send(datagramIP(guestIP, addressOf(goodAddress), 6, s, 0))
		}, always: "it has no socket"},
		{name: "data in the first segment", try: func(x *escape) {
			r := x.openRaw(5004, evilAddress+":443", x.secret, nil)
			defer r.end()
			if r.seq != 0 {
				r.segment(text, 0, 0, nil, x.secret)
			}
		}},
		{name: "a hello for another name in the first segment", try: func(x *escape) {
			x.lookUp("good.example")
			hello := other(x)[:1000]
			r := x.openRaw(5005, goodAddress+":443", hello, []byte{34, 2, 1, 1})
			defer r.end()
			if r.seq == rawSequence+1 {
				r.segment(text, 0, 0, nil, other(x)[:1000])
			}
		}},
		{name: "a hello for another name where one for a right name was", try: raw(5006, goodAddress+":443", func(x *escape, r *rawTCP) {
			hello := good(x)
			r.segment(text, 0, 0, nil, hello[:150])
			r.segment(text, 0, 0, nil, other(x)[:900])
		})},
		{name: "a hello for another name behind a gap", try: raw(5007, goodAddress+":443", func(x *escape, r *rawTCP) {
			hello := other(x)
			r.segment(text, 700, 0, nil, hello[700:])
			r.segment(text, 0, 0, nil, hello[:700])
		})},
		{name: "a hello for another name behind the end", try: raw(5008, goodAddress+":443", func(x *escape, r *rawTCP) {
			r.segment(finFlag|ackFlag, 0, 0, nil, "")
			r.segment(text, 1, 0, nil, other(x)[:1000])
		}), always: "nothing comes behind an end"},
		{name: "data behind a reset", try: raw(5009, goodAddress+":443", func(x *escape, r *rawTCP) {
			r.segment(rstFlag, 0, 0, nil, "")
			r.segment(text, 0, 0, nil, other(x)[:1000])
		}), always: "a reset ends a connection"},
		{name: "an end in the middle of a hello", try: raw(5010, goodAddress+":443", func(x *escape, r *rawTCP) {
			r.segment(text|finFlag, 0, 0, nil, other(x)[:300])
		})},
		{name: "a request where another one was", try: raw(5011, goodAddress+":80", func(x *escape, r *rawTCP) {
			head := "GET /" + x.secret + " HTTP/1.1\r\nHost: "
			r.segment(text, 0, 0, nil, head+"evil")
			r.segment(text, 0, 0, nil, head+"good")
			r.segment(text, len(head)+4, 0, nil, ".example\r\n\r\n")
		})},
	}
}

func addressOf(text string) netip.Addr { return netip.MustParseAddr(text) }

// sendICMP sends a message of ICMP.
func (x *escape) sendICMP(to string, kind, code byte, text string) {
	x.t.Helper()
	message := append([]byte{kind, code, 0, 0, 0x12, 0x34, 0, 1}, text...)
	protocol, pseudoSum := byte(unix.IPPROTO_ICMP), uint32(0)
	if address := addressOf(to); address.Is6() {
		protocol, pseudoSum = unix.IPPROTO_ICMPV6, pseudo(guestIP6, address, unix.IPPROTO_ICMPV6, len(message))
	}
	binary.BigEndian.PutUint16(message[2:], folded(pseudoSum+sum(message)))
	x.sendAs(protocol, to, string(message))
}

// ping sends a request for an echo.
func (x *escape) ping(to, text string) {
	x.t.Helper()
	kind := byte(8)
	if addressOf(to).Is6() {
		kind = 128
	}
	x.sendICMP(to, kind, 0, text)
}

// spoofed sends a datagram and the beginning of a connection from another address.
func (x *escape) spoofed(from string) {
	x.t.Helper()
	source, to := netip.AddrPortFrom(addressOf(from), 5000), netip.MustParseAddrPort(evilAddress+":443")
	x.send(datagramIP(source.Addr(), to.Addr(), 17, udpPacket(source, to, x.secret), 0),
		datagramIP(source.Addr(), to.Addr(), 6, tcpSegment(source, to, synFlag, 1, 0, 0, nil, ""), 0),
		datagramIP(source.Addr(), to.Addr(), 6, tcpSegment(source, to, rstFlag, 2, 0, 0, nil, ""), 0))
}

// fragmented sends a datagram in two pieces.
func (x *escape) fragmented(port uint16) {
	x.t.Helper()
	to := netip.AddrPortFrom(addressOf(evilAddress), port)
	whole := udpPacket(netip.AddrPortFrom(guestIP, 5000), to, strings.Repeat(x.secret, 10))
	x.send(datagramIP(guestIP, to.Addr(), 17, whole[:16], 0x2000), datagramIP(guestIP, to.Addr(), 17, whole[16:], 2))
}

// askLease asks for a lease with the secret as the guest's name.
func (x *escape) askLease() {
	x.t.Helper()
	m := make([]byte, 236)
	m[0], m[1], m[2] = 1, 1, 6
	copy(m[28:], cardMAC)
	m = append(m, 99, 130, 83, 99, 53, 1, 1, 12, byte(len(x.secret)))
	m = append(append(m, x.secret...), 255)
	nobody, everybody := netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67")
	frame := routedFrame(datagramIP(nobody.Addr(), everybody.Addr(), 17, udpPacket(nobody, everybody, string(m)), 0))
	copy(frame, "\xff\xff\xff\xff\xff\xff")
	require.NoError(x.t, x.guest.Send(frame))
}

// urge sends urgent data.
func (x *escape) urge(conn *net.TCPConn, text string) {
	x.t.Helper()
	control, err := conn.SyscallConn()
	require.NoError(x.t, err)
	require.NoError(x.t, control.Control(func(fd uintptr) { _ = unix.Send(int(fd), []byte(text), unix.MSG_OOB) }))
}
