package nat_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/porttest"
)

func TestE10OtherProtocolsAreAnsweredAsByAHostThatDoesNotKnowThem(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	for i, proto := range []uint8{unix.IPPROTO_GRE, unix.IPPROTO_SCTP, unix.IPPROTO_ESP, 255} {
		for to, c := range map[string]struct {
			from       string
			kind, code uint8
			rest       uint32
			header     int
		}{
			"203.0.113.9":    {"10.0.2.2", 3, 2, 0, 20},
			"10.0.2.3":       {"10.0.2.3", 3, 2, 0, 20},
			"2001:db8::9":    {"fd00:10:0:2::2", 4, 1, 6, 40},
			"fd00:10:0:2::3": {"fd00:10:0:2::3", 4, 1, 6, 40},
		} {
			t.Run(fmt.Sprint(proto, " to ", to), func(t *testing.T) {
				b.Frames()
				before := b.port.Counters().OtherProtocols
				b.sendProtocol(proto, to, noise(100))
				var f *porttest.Frame
				b.Until("the guest is told", func() bool {
					for _, got := range b.Frames() {
						if got.ICMP != nil && got.ICMP.Type == c.kind {
							f = got
						}
					}
					return f != nil
				})
				require.Equal(t, c.from, f.Src.String())
				require.Equal(t, c.code, f.ICMP.Code)
				require.Equal(t, c.rest, f.ICMP.Rest)
				requireSame(t, noise(100)[:8], f.ICMP.Payload[c.header:])
				require.Equal(t, before+1, b.port.Counters().OtherProtocols)
				require.Len(t, b.Notices(), i+1, "the user learns of each protocol once")
			})
		}
	}
	b.sendProtocol(254, "203.0.113.9", nil) // shorter than what is quoted
	b.Until("the guest is told", func() bool { return len(unreachables(b.Frames())) == 1 })
	for proto := range uint8(50) {
		b.sendProtocol(100+proto, "203.0.113.9", noise(100))
	}
	b.Settle()
	require.Len(t, b.Notices(), 4, "but not of all that a guest can think of")
	b.Frames()
	for _, header := range []uint8{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_ICMP} {
		b.sendProtocol(header, "fd00:10:0:2::2", make([]byte, 24))
		b.Settle()
		f := b.Frames()
		require.Len(t, f, 1)
		require.EqualValues(t, 4, f[0].ICMP.Type)
	}
}

// sendProtocol sends a packet of an IP protocol.
func (b *bench) sendProtocol(proto uint8, to string, payload []byte) {
	dst := netip.MustParseAddr(to)
	if dst.Is4() {
		b.SendFrame(b.IPv4(proto, b.IP, dst, payload))
		return
	}
	b.SendFrame(b.IPv6(proto, b.IP6, dst, payload))
}

// Some packets must never be answered by an error (RFC 1122 section 3.2.2).
func TestE11WhatMustNotBeAnsweredIsCountedByItsName(t *testing.T) {
	h := newHostile(t, setup{})
	h.sendProtocol(unix.IPPROTO_NONE, "2001:db8::9", noise(9)) // the router is advertised after the first packet of IPv6
	h.counted(2, otherProtocols, func() {
		f := h.fragment(1, 1480, 1480, true)
		f.Proto = unix.IPPROTO_GRE
		h.SendFragment(f) // not the first
		h.sendProtocol(unix.IPPROTO_NONE, "2001:db8::9", noise(9))
	})
	h.counted(3, multicast, func() {
		h.sendProtocol(unix.IPPROTO_IGMP, "224.0.0.22", noise(8))
		h.sendProtocol(unix.IPPROTO_HOPOPTS, "ff02::16", noise(8)) // MLD
		h.sendProtocol(unix.IPPROTO_ICMP, "224.0.0.1", []byte{8, 0, 0, 0, 0, 0, 0, 0})
	})
	h.counted(1, multicast, func() {
		for _, f := range h.CutICMP(netip.MustParseAddr("224.0.0.1"), porttest.ICMP{Type: 8, Payload: noise(3000)}, 7, 1480) {
			h.SendFragment(f)
		}
	})
	h.counted(2, broadcast, func() {
		h.sendProtocol(unix.IPPROTO_GRE, "10.0.2.255", noise(8))
		h.sendProtocol(unix.IPPROTO_GRE, "255.255.255.255", noise(8))
	})
	h.counted(1, badAddress, func() { h.SendFrame(h.IPv4(unix.IPPROTO_GRE, h.Gateway, netip.MustParseAddr("203.0.113.9"), noise(8))) })
}

func TestE11TheUserLearnsOfMulticastOnce(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	for range 3 {
		b.sendProtocol(unix.IPPROTO_IGMP, "224.0.0.22", noise(8))
		b.Settle()
	}
	require.Empty(t, b.Notices(), "every guest asks routers")
	for _, to := range []string{"224.0.0.251:5353", "239.255.255.250:1900", "[ff02::fb]:5353"} {
		dst := at(to)
		b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.Source(dst.Addr()), 5353), Dst: dst, Payload: noise(9)})
		b.Settle()
	}
	require.Len(t, b.Notices(), 1)
	require.Equal(t, "224.0.0.251 (mDNS)", b.Notices()[0].Value)
	require.EqualValues(t, 6, b.port.Counters().Multicast)
}
