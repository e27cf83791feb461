package vnet_test

import (
	"encoding/binary"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// slowSum is the Internet checksum as RFC 1071 explains it.
func slowSum(b []byte, sum uint64) uint16 {
	for i, v := range b {
		sum += uint64(v) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func random(n int, seed int64) []byte {
	b := make([]byte, n)
	_, _ = rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func TestSum(t *testing.T) {
	for n := range 300 {
		for align := range 8 {
			b := random(n+align, int64(n))[align:]
			initial := uint16(n * 7919)
			require.Equal(t, slowSum(b, uint64(initial)), vnet.Sum(b, initial), "%d bytes at %d", n, align)
		}
	}
	ones := make([]byte, 1<<16)
	for i := range ones {
		ones[i] = 0xff
	}
	require.EqualValues(t, 0xffff, vnet.Sum(ones, 0xffff))
}

func TestPseudoHeaderSum(t *testing.T) {
	for _, size := range []int{4, 16} {
		for i := range 50 {
			src, dst := random(size, int64(i)), random(size, int64(-i))
			length := uint16(i * 1337)
			want := header.PseudoHeaderChecksum(header.TCPProtocolNumber,
				tcpip.AddrFromSlice(src), tcpip.AddrFromSlice(dst), length)
			require.Equal(t, want, vnet.PseudoHeaderSum(6, src, dst, uint32(length)))
		}
	}
	// Lengths beyond 16 bits exist for IPv6 (RFC 8200 section 8.1).
	src, dst := random(16, 1), random(16, 2)
	b := append(append([]byte(nil), src...), dst...)
	b = binary.BigEndian.AppendUint32(b, 0x12345)
	b = append(b, 0, 0, 0, 17)
	require.Equal(t, slowSum(b, 0), vnet.PseudoHeaderSum(17, src, dst, 0x12345))
}

func TestFixChecksumMakesAValidSegment(t *testing.T) {
	const start = 34
	for n := range 200 {
		payload := random(n, int64(n))
		src, dst := random(4, 3), random(4, 4)
		frame := make([]byte, start+header.TCPMinimumSize+n)
		tcp := header.TCP(frame[start:])
		tcp.Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, SeqNum: 3, DataOffset: header.TCPMinimumSize})
		copy(tcp.Payload(), payload)
		pseudo := vnet.PseudoHeaderSum(6, src, dst, uint32(len(tcp)))
		tcp.SetChecksum(pseudo)

		require.True(t, vnet.FixChecksum(frame, start, 16))
		require.True(t, tcp.IsChecksumValid(tcpip.AddrFromSlice(src), tcpip.AddrFromSlice(dst),
			checksum.Checksum(payload, 0), uint16(n)))
	}
}

func TestFixChecksumNeverWritesZero(t *testing.T) {
	frame := []byte{0xff, 0xff, 0, 0}
	require.True(t, vnet.FixChecksum(frame, 0, 2))
	require.Equal(t, []byte{0xff, 0xff, 0xff, 0xff}, frame)
}

func TestFixChecksumStaysInTheFrame(t *testing.T) {
	tests := []struct {
		start, offset uint16
		ok            bool
	}{
		{0, 0, true}, {58, 0, true}, {0, 58, true}, {0, 59, false}, {59, 0, false}, {60, 0, false}, {61, 0, false},
		{65535, 0, false}, {0, 65535, false}, {65535, 65535, false},
	}
	for _, tt := range tests {
		frame := random(60, 9)
		before := append([]byte(nil), frame...)
		require.Equal(t, tt.ok, vnet.FixChecksum(frame, tt.start, tt.offset), "%+v", tt)
		require.Equal(t, tt.ok, string(frame) != string(before))
	}
	require.False(t, vnet.FixChecksum(nil, 0, 0))
}

func TestUpdateChecksum(t *testing.T) {
	for i := range 1000 {
		b := random(40, int64(i))
		binary.BigEndian.PutUint16(b[10:], 0)
		check := ^vnet.Sum(b, 0)
		before := binary.BigEndian.Uint16(b[16:])
		after := uint16(i * 65537 / 13)
		binary.BigEndian.PutUint16(b[16:], after)
		got := vnet.UpdateChecksum(check, before, after)
		require.EqualValues(t, 0xffff, vnet.Combine(vnet.Sum(b, 0), got), "the whole sums up")
	}
}

func TestSegments(t *testing.T) {
	tests := []struct {
		payload int
		size    uint16
		want    int
	}{{0, 1448, 1}, {1, 1448, 1}, {1448, 1448, 1}, {1449, 1448, 2}, {65495, 1448, 46}, {65495, 1, 65495}, {10, 65535, 1}}
	for _, tt := range tests {
		require.Equal(t, tt.want, vnet.Segments(tt.payload, tt.size))
	}
}

func BenchmarkSum(b *testing.B) {
	for name, n := range map[string]int{"header of 20 bytes": 20, "frame of 1460 bytes": 1460, "frame of 64 KiB": 65000} {
		b.Run(name, func(b *testing.B) {
			buf := random(n, 1)
			b.SetBytes(int64(n))
			for b.Loop() {
				vnet.Sum(buf, 0)
			}
		})
	}
}
