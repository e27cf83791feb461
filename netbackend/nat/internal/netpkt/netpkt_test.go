package netpkt_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// ends are two ends of a conversation, of a version of IP.
func ends(is4 bool) (a, b ipaddr.Addr) {
	if is4 {
		return ipaddr.From(netip.MustParseAddr("192.0.2.1")), ipaddr.From(netip.MustParseAddr("10.0.2.15"))
	}
	return ipaddr.From(netip.MustParseAddr("2001:db8::1")), ipaddr.From(netip.MustParseAddr("fd00::15"))
}

// put writes the IP header of a packet with n bytes behind it, and returns all of it.
func put(is4 bool, proto uint8, n int) []byte {
	src, dst := ends(is4)
	if is4 {
		b := make([]byte, netpkt.IPv4Len+n)
		netpkt.PutIPv4(b[:netpkt.IPv4Len], &src, &dst, proto, n)
		return b
	}
	b := make([]byte, netpkt.IPv6Len+n)
	netpkt.PutIPv6(b[:netpkt.IPv6Len], &src, &dst, proto, n)
	return b
}

// parse reads the headers of a packet that is all of a frame.
func parse(is4 bool, b []byte) (k netpkt.Packet, ok bool) {
	if is4 {
		ok = k.ParseIPv4(b, 0, int64(len(b)))
		return k, ok
	}
	ok = k.ParseIPv6(b, 0, int64(len(b))) && k.TakeFragmentHeader()
	return k, ok
}

var versions = map[string]bool{"IPv4": true, "IPv6": false}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	for name, is4 := range versions {
		t.Run(name, func(t *testing.T) {
			src, dst := ends(is4)
			k, ok := parse(is4, put(is4, netpkt.UDP, 100))
			require.True(t, ok)
			require.Equal(t, []ipaddr.Addr{src, dst}, []ipaddr.Addr{k.Src, k.Dst})
			require.EqualValues(t, netpkt.UDP, k.Proto)
			require.EqualValues(t, netpkt.HopLimit, k.Hops)
			require.Zero(t, k.TOS)
			require.Equal(t, 100, k.L4Len)
			require.Len(t, k.L4, 100)
			require.Equal(t, src.HeaderLen(), k.L4Offset)
			require.True(t, k.Whole && k.Part.IsAll())
		})
	}
}

func TestICMPHasANumberOfItsOwnInIPv6(t *testing.T) {
	a4, _ := ends(true)
	a6, _ := ends(false)
	k, ok := parse(false, put(false, netpkt.ICMP, 8))
	require.True(t, ok)
	require.EqualValues(t, netpkt.ICMPv6, k.Proto)
	require.EqualValues(t, netpkt.ICMP, netpkt.ProtoOf(k.Proto), "flows have one name for it")
	require.EqualValues(t, netpkt.TCP, netpkt.ProtoOf(netpkt.TCP))
	require.EqualValues(t, netpkt.ICMP, netpkt.ICMPProto(&a4))
	require.EqualValues(t, netpkt.ICMPv6, netpkt.ICMPProto(&a6))
}

// A header of IPv4 is right if its sum is 0xffff.
func requireSum(t *testing.T, b []byte) {
	t.Helper()
	if b[0]>>4 == 4 {
		require.EqualValues(t, 0xffff, vnet.Sum(b[:netpkt.IPv4Len], 0))
	}
}

func TestHeadersThatAreChangedStayRight(t *testing.T) {
	for name, is4 := range versions {
		t.Run(name, func(t *testing.T) {
			b := put(is4, netpkt.UDP, 8)
			_, dst := ends(is4)
			requireSum(t, b)
			netpkt.SetHops(b[:dst.HeaderLen()], 3, 0xb8)
			requireSum(t, b)
			k, ok := parse(is4, b)
			require.True(t, ok)
			require.Equal(t, []uint8{3, 0xb8}, []uint8{k.Hops, k.TOS})
			if !is4 {
				return
			}
			netpkt.PermitFragments(b, 0x1234)
			requireSum(t, b)
			require.EqualValues(t, 0x1234, binary.BigEndian.Uint16(b[4:]))
			k, _ = parse(is4, b)
			require.False(t, k.Whole)
			require.True(t, k.Part.IsAll())
		})
	}
}

func TestPartsOfAPacketAreReadAsTheyWereWritten(t *testing.T) {
	for name, is4 := range versions {
		_, dst := ends(is4)
		more := netpkt.FragmentOverhead(&dst)
		for _, part := range []netpkt.Part{{ID: 7, More: true}, {ID: 0xffff, Start: 1480, More: true}, {ID: 1, Start: 65528}} {
			b := put(is4, netpkt.ICMP, more+16)
			netpkt.PutPart(b[:dst.HeaderLen()], b[dst.HeaderLen():], part, 16)
			requireSum(t, b)
			k, ok := parse(is4, b)
			require.True(t, ok, name)
			require.Equal(t, part, k.Part, name)
			require.Equal(t, netpkt.ICMPProto(&dst), k.Proto, name)
			require.Equal(t, 16, k.L4Len, name)
			require.Len(t, k.L4, 16, name)
			require.Equal(t, dst.HeaderLen()+more, k.L4Offset, name)
			require.False(t, k.Whole, name)
		}
	}
}

// A fragment that is all of its packet is a packet (RFC 6946).
func TestAFragmentThatIsAllIsAPacket(t *testing.T) {
	b := put(false, netpkt.UDP, 16)
	netpkt.PutPart(b[:netpkt.IPv6Len], b[netpkt.IPv6Len:], netpkt.Part{ID: 5}, 8)
	k, ok := parse(false, b)
	require.True(t, ok)
	require.True(t, k.Part.IsAll())
}

func TestPacketsThatContradictTheirFrameAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		is4    bool
		change func(b []byte)
		room   int64
	}{
		"IPv4: another version":        {true, func(b []byte) { b[0] = 0x65 }, 28},
		"IPv4: header too short":       {true, func(b []byte) { b[0] = 0x44 }, 28},
		"IPv4: options not there":      {true, func(b []byte) { b[0], b[3] = 0x4f, 68 }, 1000},
		"IPv4: header behind the end":  {true, func(b []byte) { b[0], b[3] = 0x46, 20 }, 28},
		"IPv4: longer than its frame":  {true, func(b []byte) { b[3] = 29 }, 28},
		"IPv4: length of nearly all":   {true, func(b []byte) { b[2], b[3] = 0xff, 0xff }, 28},
		"IPv6: another version":        {false, func(b []byte) { b[0] = 0x45 }, 48},
		"IPv6: longer than its frame":  {false, func(b []byte) { b[5] = 9 }, 48},
		"IPv6: fragment header cut":    {false, func(b []byte) { b[6], b[5] = 44, 7 }, 48},
		"IPv6: no room for the header": {false, func(b []byte) {}, 40},
	} {
		b := put(c.is4, netpkt.UDP, 8)
		c.change(b)
		var k netpkt.Packet
		ok := c.is4 && k.ParseIPv4(b, 20, 20+c.room) || !c.is4 && k.ParseIPv6(b, 20, 20+c.room) && k.TakeFragmentHeader()
		require.False(t, ok, name)
	}
}

// The padding of a short frame is no part of the packet.
func TestPaddingIsNotOfThePacket(t *testing.T) {
	b := append(put(true, netpkt.UDP, 8), make([]byte, 18)...)
	k, ok := parse(true, b)
	require.True(t, ok)
	require.Equal(t, 8, k.L4Len)
	require.Len(t, k.L4, 8)
}

// Whatever the guest sends, nothing beyond what was copied is looked at, and what is said of it is true.
func TestAnyBytesAreReadWithoutHarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 120).Draw(t, "frame")
		if len(b) > 6 && rapid.Bool().Draw(t, "plausible") {
			b[0] = rapid.SampledFrom([]byte{0x45, 0x46, 0x4f, 0x60}).Draw(t, "version")
			b[2], b[4], b[6] = 0, 0, rapid.SampledFrom([]byte{0, 6, 44}).Draw(t, "next")
		}
		room := int64(len(b) + rapid.IntRange(0, 100).Draw(t, "more"))
		for _, is4 := range versions {
			var k netpkt.Packet
			ok := is4 && k.ParseIPv4(b, 14, 14+room) || !is4 && k.ParseIPv6(b, 14, 14+room) && k.TakeFragmentHeader()
			if !ok {
				continue
			}
			require.LessOrEqual(t, int64(k.L4Offset+k.L4Len), 14+room)
			require.LessOrEqual(t, len(k.L4), k.L4Len)
			var s netpkt.Segment
			if s.Parse(k.L4, k.L4Len) {
				require.Equal(t, k.L4Len, s.Offset+s.N)
				s.EachSACK(func(seqnum.Range) {})
				netpkt.ParseSYNOptions(s.Options)
				s.ReadTimes()
			}
			netpkt.ParseQuote(k.L4, is4)
		}
	})
}
