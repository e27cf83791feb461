package netpkt_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// What an error says is the same in both versions of IP.
func TestMessagesSayTheSameInBothVersions(t *testing.T) {
	for name, is4 := range versions {
		a, _ := ends(is4)
		for want, messages := range map[netpkt.Complaint][]netpkt.Message{
			netpkt.DoesNotFit:    {netpkt.TooBig(is4)},
			netpkt.NobodyTakes:   {netpkt.Unreachable(is4, netpkt.CodePort), netpkt.UnknownProtocol(is4)},
			netpkt.DoesNotArrive: {netpkt.Unreachable(is4, netpkt.CodeNet), netpkt.Unreachable(is4, netpkt.CodeHost), netpkt.Unreachable(is4, netpkt.CodeProhibited), netpkt.TimeExceeded(is4, netpkt.CodeHops)},
			netpkt.NoComplaint:   {netpkt.TimeExceeded(is4, netpkt.CodeReassembly), {Kind: netpkt.EchoReply(&a)}, {Kind: 200}},
		} {
			for _, m := range messages {
				require.Equal(t, want, m.Complaint(&a), "%s %+v", name, m)
			}
		}
		require.True(t, netpkt.Unreachable(is4, netpkt.CodeHost).IsLoss(is4))
		require.True(t, netpkt.TimeExceeded(is4, netpkt.CodeHops).IsLoss(is4))
		require.False(t, netpkt.Message{Kind: netpkt.EchoReply(&a)}.IsLoss(is4))
	}
}

// The codes of ICMPv6 for those of IPv4 (RFC 4443 section 3.1).
func TestCodesOfICMPv6(t *testing.T) {
	for code, want := range map[uint8]uint8{
		netpkt.CodeNet: 0, netpkt.CodeIsolated: 0, netpkt.CodeProhibited: 1, netpkt.CodePort: 4, netpkt.CodeProtocol: 4,
		netpkt.CodeHost: 3, netpkt.CodeNoHost: 3,
	} {
		require.Equal(t, netpkt.Message{Kind: 1, Code: want}, netpkt.Unreachable(false, code))
		require.Equal(t, netpkt.Message{Kind: 3, Code: code}, netpkt.Unreachable(true, code))
	}
}

func TestOnlyEchoRequestsAreSo(t *testing.T) {
	for _, is4 := range versions {
		a, _ := ends(is4)
		request := map[bool]byte{true: 8, false: 128}[is4]
		require.True(t, netpkt.IsEchoRequest(&a, []byte{request, 0}))
		require.False(t, netpkt.IsEchoRequest(&a, []byte{request, 1}))
		require.False(t, netpkt.IsEchoRequest(&a, []byte{netpkt.EchoReply(&a), 0}))
	}
	require.False(t, netpkt.IsNDP(132))
	require.True(t, netpkt.IsNDP(133))
	require.True(t, netpkt.IsNDP(137))
	require.False(t, netpkt.IsNDP(138))
}

func TestAnIdentifierIsReplacedWithoutTheRest(t *testing.T) {
	for _, id := range []uint16{0, 1, 0x1234, 0xffff} {
		b := []byte{8, 0, 0, 0, 0xab, 0xcd, 0, 1, 'x', 'y'}
		binary.BigEndian.PutUint16(b[2:], ^vnet.Sum(b, 0))
		netpkt.ReplaceIdentifier(b, id)
		require.Equal(t, id, binary.BigEndian.Uint16(b[4:]))
		require.EqualValues(t, 0xffff, vnet.Sum(b, 0))
	}
}

// quoteOf is what an ICMP error quotes of a packet with the transport header l4.
func quoteOf(is4 bool, proto uint8, l4 []byte) []byte {
	b := put(is4, proto, 1000)
	_, dst := ends(is4)
	return append(b[:dst.HeaderLen()], l4...)
}

func TestQuotesNameTheirConversation(t *testing.T) {
	for name, is4 := range versions {
		src, dst := ends(is4)
		syn := netpkt.QuotedSYN(80, 1024, seqnum.From(99))
		q, ok := netpkt.ParseQuote(quoteOf(is4, netpkt.TCP, syn[:]), is4)
		require.True(t, ok, name)
		require.Equal(t, netpkt.Quote{
			Src: src, Dst: dst, SrcPort: 80, DstPort: 1024, Seq: seqnum.From(99), Size: src.HeaderLen() + 1000, Proto: netpkt.TCP,
		}, q, name)

		udp := make([]byte, netpkt.UDPLen)
		netpkt.PutUDP(udp, 53, 2000, 8)
		q, ok = netpkt.ParseQuote(quoteOf(is4, netpkt.UDP, udp), is4)
		require.True(t, ok, name)
		require.Equal(t, []uint16{53, 2000}, []uint16{q.SrcPort, q.DstPort}, name)

		reply := []byte{netpkt.EchoReply(&dst), 0, 0, 0, 7, 8, 0, 0}
		q, ok = netpkt.ParseQuote(quoteOf(is4, netpkt.ICMP, reply), is4)
		require.True(t, ok, name)
		require.EqualValues(t, 0x708, q.DstPort, name)
		require.EqualValues(t, netpkt.ICMP, q.Proto, name)
		reply[0]++
		_, ok = netpkt.ParseQuote(quoteOf(is4, netpkt.ICMP, reply), is4)
		require.False(t, ok, "%s: only replies are the engine's", name)

		_, ok = netpkt.ParseQuote(quoteOf(is4, netpkt.UDP, udp[:7]), is4)
		require.False(t, ok, "%s: too short", name)
		_, ok = netpkt.ParseQuote(quoteOf(is4, 47, udp), is4)
		require.False(t, ok, "%s: another protocol", name)
		_, ok = netpkt.ParseQuote(quoteOf(!is4, netpkt.UDP, udp), is4)
		require.False(t, ok, "%s: another version", name)
	}
}

func TestOnlyAFirstFragmentNamesAConversation(t *testing.T) {
	for name, is4 := range versions {
		for start, want := range map[int]bool{0: true, 8: false} {
			_, dst := ends(is4)
			udp := make([]byte, netpkt.UDPLen)
			netpkt.PutUDP(udp, 53, 2000, 8)
			b := quoteOf(is4, netpkt.UDP, append(make([]byte, netpkt.FragmentOverhead(&dst)), udp...))
			netpkt.PutPart(b[:dst.HeaderLen()], b[dst.HeaderLen():], netpkt.Part{Start: start, More: true}, 1000)
			_, ok := netpkt.ParseQuote(b, is4)
			require.Equal(t, want, ok, "%s from byte %d", name, start)
		}
	}
}

func TestAChecksumOfZeroIsSentAsAllOnes(t *testing.T) {
	require.EqualValues(t, 0xffff, netpkt.UDPChecksum(0xffff))
	require.EqualValues(t, 0xfffe, netpkt.UDPChecksum(1))
}
