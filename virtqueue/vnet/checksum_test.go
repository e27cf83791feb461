package vnet_test

import (
	"encoding/binary"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
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
