package capture

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// sumOf is the Internet checksum as RFC 1071 explains it.
func sumOf(parts ...[]byte) uint16 {
	var sum uint64
	for _, b := range parts {
		for i, v := range b {
			sum += uint64(v) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// super makes a frame as a guest with offloads sends it: with tags, over an IP version, of TCP or UDP, and with n bytes of payload.
func super(tags int, isIPv6, isTCP bool, n int) Frame {
	frame := append([]byte(nil), 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2)
	for range tags {
		frame = append(frame, 0x81, 0, 0, 5)
	}
	l4 := make([]byte, 8)
	h := vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOUDPL4, GSOSize: 1000, CsumOffset: 6}
	proto := byte(17)
	if isTCP {
		l4 = make([]byte, 32)
		l4[12], l4[13] = 8<<4, tcpCWR|0x10|tcpPush|tcpFIN
		binary.BigEndian.PutUint32(l4[4:], 0xfffffe00) // it wraps around
		h.GSOType, h.CsumOffset, proto = vnet.GSOTCPv4, 16, 6
	}
	binary.BigEndian.PutUint16(l4, 40000)
	binary.BigEndian.PutUint16(l4[2:], 443)
	l4 = append(l4, pattern(n, 5)...)
	ip := []byte{0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, proto, 0, 0, 10, 0, 2, 15, 192, 0, 2, 1}
	src, dst := ip[12:16], ip[16:20]
	etherType := []byte{8, 0}
	if isIPv6 {
		etherType = []byte{0x86, 0xdd}
		ip = append([]byte{0x60, 0, 0, 0, 0, 0, proto, 64}, pattern(32, 6)...)
		src, dst = ip[8:24], ip[24:40]
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		if isTCP {
			h.GSOType = vnet.GSOTCPv6
		}
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(l4)))
	}
	binary.BigEndian.PutUint16(l4[h.CsumOffset:], sumOf(src, dst, []byte{0, proto}, []byte{byte(len(l4) >> 8), byte(len(l4))}))
	frame = append(append(append(frame, etherType...), ip...), l4...)
	h.CsumStart = uint16(len(frame) - len(l4))
	return Frame{Header: h, Length: len(frame), Data: frame}
}

// requireSums checks the checksums of a frame that was captured whole.
func requireSums(t *testing.T, data []byte, f *Frame, isIPv6 bool) {
	l4 := data[f.Header.CsumStart:]
	ip := data[f.Header.CsumStart-20 : f.Header.CsumStart]
	addresses, proto := ip[12:], ip[9]
	if isIPv6 {
		ip = data[f.Header.CsumStart-40 : f.Header.CsumStart]
		addresses, proto = ip[8:], ip[6]
		require.EqualValues(t, len(l4), binary.BigEndian.Uint16(ip[4:]))
	} else {
		require.EqualValues(t, 20+len(l4), binary.BigEndian.Uint16(ip[2:]))
	}
	require.EqualValues(t, 0xffff, sumOf(addresses, []byte{0, proto}, []byte{byte(len(l4) >> 8), byte(len(l4))}, l4))
}

// everySuper runs a test for each kind of frame.
func everySuper(t *testing.T, test func(t *testing.T, f Frame, isIPv6, isTCP bool)) {
	for tags := range 3 {
		for i := range 4 {
			isIPv6, isTCP := i%2 == 1, i/2 == 1
			t.Run(fmt.Sprintf("%d tags, IPv6 %v, TCP %v", tags, isIPv6, isTCP), func(t *testing.T) {
				test(t, super(tags, isIPv6, isTCP, 2500), isIPv6, isTCP)
			})
		}
	}
}

func TestChecksumsAreFilledIn(t *testing.T) {
	everySuper(t, func(t *testing.T, f Frame, isIPv6, _ bool) {
		f.Complete()
		requireSums(t, f.Data, &f, isIPv6)
	})
}

func TestFramesAreCutIntoSegments(t *testing.T) {
	everySuper(t, func(t *testing.T, f Frame, isIPv6, isTCP bool) {
		headers := f.Length - 2500
		var payload []byte
		var lens []int
		ok := new(Cutter).Cut(&f, func(data []byte, length int) {
			i := len(lens)
			lens = append(lens, length-headers)
			require.Len(t, data, length)
			requireSums(t, data, &f, isIPv6)
			payload = append(payload, data[headers:]...)
			l4 := data[f.Header.CsumStart:]
			if !isIPv6 {
				ip := data[f.Header.CsumStart-20 : f.Header.CsumStart]
				require.EqualValues(t, 0xffff, sumOf(ip))
				require.EqualValues(t, uint16(0xffff+i), binary.BigEndian.Uint16(ip[4:]))
			}
			if !isTCP {
				require.EqualValues(t, len(l4), binary.BigEndian.Uint16(l4[4:]))
				return
			}
			start := uint32(0xfffffe00)
			require.Equal(t, start+uint32(1000*i), binary.BigEndian.Uint32(l4[4:]))
			require.Equal(t, []byte{tcpCWR | 0x10, 0x10, 0x10 | tcpPush | tcpFIN}[i], l4[13])
		})
		require.True(t, ok)
		require.Equal(t, []int{1000, 1000, 500}, lens)
		require.Equal(t, pattern(2500, 5), payload)
	})
}

// What was not captured is not made up: the lengths stay, and the data end.
func TestSegmentsOfAFrameThatWasNotCapturedWhole(t *testing.T) {
	everySuper(t, func(t *testing.T, f Frame, _, _ bool) {
		headers := f.Length - 2500
		f.Data = f.Data[:headers+1200]
		var lens, datas []int
		require.True(t, new(Cutter).Cut(&f, func(data []byte, length int) {
			lens, datas = append(lens, length-headers), append(datas, len(data)-headers)
		}))
		require.Equal(t, []int{1000, 1000, 500}, lens)
		require.Equal(t, []int{1000, 200, 0}, datas)
	})
}

func TestWhatIsNoSuperframeIsKeptWhole(t *testing.T) {
	for name, lie := range map[string]func(f *Frame){
		"no GSO":                   func(f *Frame) { f.Header.GSOType = vnet.GSONone },
		"fragments":                func(f *Frame) { f.Header.GSOType = vnet.GSOUDP },
		"unknown GSO":              func(f *Frame) { f.Header.GSOType = 77 },
		"another IP version":       func(f *Frame) { f.Header.GSOType = vnet.GSOTCPv6 },
		"no checksum":              func(f *Frame) { f.Header.Flags = 0 },
		"segments of nothing":      func(f *Frame) { f.Header.GSOSize = 0 },
		"too many segments":        func(f *Frame) { f.Header.GSOSize = 2 },
		"checksum behind the end":  func(f *Frame) { f.Header.CsumStart = 65535 },
		"checksum at the start":    func(f *Frame) { f.Header.CsumStart = 0 },
		"checksum in the header":   func(f *Frame) { f.Header.CsumStart -= 4 },
		"an IP header too long":    func(f *Frame) { f.Data[14] = 0x4f },
		"an IP header too short":   func(f *Frame) { f.Data[14] = 0x41 },
		"another protocol":         func(f *Frame) { f.Data[12] = 0x99 },
		"a TCP header too short":   func(f *Frame) { f.Data[34+12] = 0x10 },
		"a TCP header beyond":      func(f *Frame) { f.Data, f.Data[34+12] = f.Data[:34+32], 0xf0 },
		"headers not captured":     func(f *Frame) { f.Data = f.Data[:40] },
		"tags without an end":      func(f *Frame) { copy(f.Data[12:], []byte{0x81, 0, 0, 5, 0x81, 0, 0, 5, 0x81, 0}) },
		"no payload":               func(f *Frame) { f.Length = 34 + 32; f.Data = f.Data[:f.Length] },
		"payload shorter than TCP": func(f *Frame) { f.Length = 60 },
	} {
		t.Run(name, func(t *testing.T) {
			f := super(0, false, true, 2500)
			lie(&f)
			require.False(t, new(Cutter).Cut(&f, func([]byte, int) { require.Fail(t, "a segment") }))
			f.Complete()
		})
	}
}

// FuzzOffload gives the reader what a guest may have written. It makes no more of it than it should, and does not fail.
func FuzzOffload(f *testing.F) {
	for i := range 4 {
		frame := super(i%3, i%2 == 1, i/2 == 1, 300)
		first, rest := frame.Header.Words()
		f.Add(first, rest, frame.Data, uint16(0))
	}
	cutter := new(Cutter)
	f.Fuzz(func(t *testing.T, first uint64, rest uint32, data []byte, more uint16) {
		if len(data) < MinSnapLen || len(data) > MaxSnapLen {
			return
		}
		frame := Frame{Header: vnet.FromWords(first, rest), Length: min(len(data)+int(more), MaxSnapLen), Data: data}
		segments := 0
		cutter.Cut(&frame, func(data []byte, length int) {
			segments++
			require.LessOrEqual(t, len(data), length)
		})
		require.LessOrEqual(t, segments, maxSegments)
		frame.Complete()
		require.Len(t, frame.Data, len(data))
	})
}
