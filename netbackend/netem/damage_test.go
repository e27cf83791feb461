package netem

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// packetOf is a frame with a packet of a version that carries b by a protocol, with right checksums. tags are of VLANs, pad is what follows.
func packetOf(version, tags int, proto byte, b []byte, sumAt, pad int) []byte {
	frame := make([]byte, vnet.EthernetHeaderLen-2)
	for range tags {
		frame = append(frame, 0x81, 0, 0, 7)
	}
	var ip, src, dst []byte
	if version == 4 {
		ip = make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(b)))
		copy(ip[12:], []byte{10, 0, 2, 15, 10, 0, 2, 2})
		binary.BigEndian.PutUint16(ip[10:], ^vnet.Sum(ip, 0))
		src, dst = ip[12:16], ip[16:20]
		frame = append(frame, 8, 0)
	} else {
		ip = make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(b)))
		ip[23], ip[39] = 15, 2
		src, dst = ip[8:24], ip[24:40]
		frame = append(frame, 0x86, 0xdd)
	}
	if sumAt >= 0 {
		sum := uint16(0)
		if proto != protoICMP {
			sum = vnet.PseudoHeaderSum(proto, src, dst, uint32(len(b)))
		}
		b[sumAt], b[sumAt+1] = 0, 0
		binary.BigEndian.PutUint16(b[sumAt:], ^vnet.Sum(b, sum))
	}
	return append(append(append(frame, ip...), b...), make([]byte, pad)...)
}

// isRight reports whether a receiver finds the checksums of such a frame right.
func isRight(frame []byte, version, tags int, proto byte, hasSum bool) bool {
	ip := frame[vnet.EthernetHeaderLen+4*tags:]
	if version == 4 {
		n := int(binary.BigEndian.Uint16(ip[2:]))
		if vnet.Sum(ip[:20], 0) != 0xffff {
			return false
		}
		sum := uint16(0)
		if proto != protoICMP {
			sum = vnet.PseudoHeaderSum(proto, ip[12:16], ip[16:20], uint32(n-20))
		}
		return !hasSum || vnet.Sum(ip[20:n], sum) == 0xffff
	}
	if !hasSum {
		return true // there is none in an IPv6 header
	}
	n := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[6] != proto || n > len(ip)-40 {
		return false
	}
	return vnet.Sum(ip[40:40+n], vnet.PseudoHeaderSum(proto, ip[8:24], ip[24:40], uint32(n))) == 0xffff
}

// The test takes the place of a receiver, bit by bit.
func TestOnlyWhatAChecksumCoversShows(t *testing.T) {
	for _, version := range []int{4, 6} {
		for _, tags := range []int{0, 1, 2} {
			for proto, sumAt := range map[byte]int{protoTCP: 16, protoUDP: 6, protoICMP: 2, protoICMPv6: 2, 132: -1} {
				if version == 6 && proto == protoICMP || version == 4 && proto == protoICMPv6 {
					continue
				}
				t.Run(fmt.Sprint("IPv", version, ", ", tags, " tags, protocol ", proto), func(t *testing.T) {
					whole := packetOf(version, tags, proto, []byte("some bytes, enough for any of the headers"), sumAt, 9)
					require.True(t, isRight(whole, version, tags, proto, sumAt >= 0))
					for at := vnet.EthernetHeaderLen + 4*tags; at < len(whole); at++ {
						frame := append([]byte(nil), whole...)
						shown := shows(frame, at)
						frame[at] ^= 1 << (at % 8)
						require.Equal(t, !isRight(frame, version, tags, proto, sumAt >= 0), shown, "byte %d", at)
					}
				})
			}
		}
	}
}

func TestWithoutAChecksumNothingShows(t *testing.T) {
	udp := make([]byte, 20)
	frame := packetOf(4, 0, protoUDP, udp, -1, 0)
	const header = 14 + 20
	require.False(t, shows(frame, header+12))
	require.True(t, shows(frame, header+6), "then there is one, which is wrong")
	require.True(t, shows(frame, header-1))
	binary.BigEndian.PutUint16(frame[14+6:], 0x2000)
	require.True(t, shows(frame, header+12), "a fragment")
	arp := make([]byte, 60)
	arp[12], arp[13] = 8, 6
	require.False(t, shows(arp, 30))
}

func FuzzShows(f *testing.F) {
	f.Add(packetOf(4, 1, protoTCP, make([]byte, 40), 16, 3), uint16(20))
	f.Add(packetOf(6, 2, protoFragment, make([]byte, 8), -1, 0), uint16(60))
	f.Fuzz(func(_ *testing.T, frame []byte, at uint16) {
		if len(frame) > vnet.EthernetHeaderLen && int(at) < len(frame) {
			shows(frame, int(at))
		}
	})
}
