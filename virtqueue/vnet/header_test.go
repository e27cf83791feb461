package vnet_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/vnet"
)

var _ error = vnet.HeaderError(0)

func TestHeaderIsLittleEndian(t *testing.T) {
	h := vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOTCPv4, HdrLen: 0x0102, GSOSize: 0x0304,
		CsumStart: 0x0506, CsumOffset: 0x0708, NumBuffers: 0x090a}
	want := []byte{1, 1, 2, 1, 4, 3, 6, 5, 8, 7, 0xa, 9}

	long := make([]byte, vnet.HeaderLen)
	h.Encode(long)
	require.Equal(t, want, long)
	var back vnet.Header
	back.Decode(long)
	require.Equal(t, h, back)

	short := make([]byte, vnet.LegacyHeaderLen)
	h.Encode(short)
	require.Equal(t, want[:10], short)
	back.Decode(short)
	h.NumBuffers = 0
	require.Equal(t, h, back, "what is not there is 0")
}

func TestWordsAreTheLongForm(t *testing.T) {
	h := vnet.Header{Flags: 1, GSOType: 2, HdrLen: 0x0304, GSOSize: 0x0506, CsumStart: 0x0708, CsumOffset: 0x090a, NumBuffers: 0x0b0c}
	var b [vnet.HeaderLen]byte
	h.Encode(b[:])
	first, rest := h.Words()
	require.Equal(t, binary.LittleEndian.Uint64(b[:]), first)
	require.Equal(t, binary.LittleEndian.Uint32(b[8:]), rest)
	require.Equal(t, h, vnet.FromWords(first, rest))
}

// The short way must let pass what the long way lets pass without a look at the features, and nothing else.
func TestPlainWordsSayWhatPlainAndCleanSay(t *testing.T) {
	for kind := range 1 << 16 {
		for _, hint := range []uint16{0, 1, 54, 55, 0xffff} {
			h := vnet.Header{
				Flags: uint8(kind), GSOType: uint8(kind >> 8), HdrLen: hint, GSOSize: 9, CsumStart: 34, CsumOffset: 16, NumBuffers: 7,
			}
			first, _ := h.Words()
			clean, ok := vnet.PlainWords(first, 54)
			if ok != h.Plain() {
				t.Fatalf("%+v: %v", h, ok)
			}
			if h.Clean(54); ok && vnet.FromWords(clean, 0) != h {
				t.Fatalf("%+v, not %+v", vnet.FromWords(clean, 0), h)
			}
		}
	}
}

func TestHeaderLength(t *testing.T) {
	require.Equal(t, 10, vnet.HeaderLength(vnet.FeatureCSum))
	require.Equal(t, 12, vnet.HeaderLength(vnet.FeatureVersion1))
	require.Equal(t, 12, vnet.HeaderLength(vnet.FeatureMrgRxBuf))
}

// everything is all that a guest could acknowledge.
const everything = ^uint64(0)

func TestCheck(t *testing.T) {
	tso4 := vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOTCPv4, HdrLen: 54, GSOSize: 1448, CsumStart: 34, CsumOffset: 16}
	uso := vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOUDPL4, HdrLen: 42, GSOSize: 1472, CsumStart: 34, CsumOffset: 6}
	with := func(h vnet.Header, edit func(*vnet.Header)) vnet.Header { edit(&h); return h }
	const length = 3000
	tests := []struct {
		name     string
		h        vnet.Header
		len      int
		features uint64
		want     error
	}{
		{"plain", vnet.Header{}, 60, 0, nil},
		{"shortest frame", vnet.Header{}, 14, 0, nil},
		{"shorter than Ethernet", vnet.Header{}, 13, 0, vnet.ErrShortFrame},
		{"no frame at all", vnet.Header{}, 0, 0, vnet.ErrShortFrame},
		{"negative length", vnet.Header{}, -1, 0, vnet.ErrShortFrame},

		{"checksum", vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16}, 60, vnet.FeatureCSum, nil},
		{"checksum not negotiated", vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16}, 60, ^vnet.FeatureCSum, vnet.ErrCSumFeature},
		{"checksum at the very end", vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 40, CsumOffset: 18}, 60, everything, nil},
		{"checksum one byte out", vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 40, CsumOffset: 19}, 60, everything, vnet.ErrCSumRange},
		{"checksum start behind the frame", vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 61}, 60, everything, vnet.ErrCSumRange},
		{"checksum sum beyond 16 bits", vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 0xffff, CsumOffset: 0xffff}, 60, everything, vnet.ErrCSumRange},
		{"checksum fields without the flag", vnet.Header{CsumStart: 0xffff, CsumOffset: 0xffff}, 60, 0, nil},

		{"tso4", tso4, length, vnet.FeatureCSum | vnet.FeatureHostTSO4, nil},
		{"tso4 not negotiated", tso4, length, everything &^ vnet.FeatureHostTSO4, vnet.ErrGSOFeature},
		{"tso6", with(tso4, func(h *vnet.Header) { h.GSOType = vnet.GSOTCPv6 }), length, vnet.FeatureCSum | vnet.FeatureHostTSO6, nil},
		{"tso6 not negotiated", with(tso4, func(h *vnet.Header) { h.GSOType = vnet.GSOTCPv6 }), length, everything &^ vnet.FeatureHostTSO6, vnet.ErrGSOFeature},
		{"ecn", with(tso4, func(h *vnet.Header) { h.GSOType |= vnet.GSOECN }), length, everything, nil},
		{"ecn not negotiated", with(tso4, func(h *vnet.Header) { h.GSOType |= vnet.GSOECN }), length, everything &^ vnet.FeatureHostECN, vnet.ErrGSOFeature},
		{"ecn without tcp", with(uso, func(h *vnet.Header) { h.GSOType |= vnet.GSOECN }), length, everything, vnet.ErrGSOType},
		{"ecn alone", vnet.Header{GSOType: vnet.GSOECN}, length, everything, vnet.ErrGSOType},
		{"uso", uso, length, vnet.FeatureCSum | vnet.FeatureHostUSO, nil},
		{"uso not negotiated", uso, length, everything &^ vnet.FeatureHostUSO, vnet.ErrGSOFeature},
		{"ufo", with(uso, func(h *vnet.Header) { h.GSOType = vnet.GSOUDP }), length, everything, nil},
		{"ufo not negotiated", with(uso, func(h *vnet.Header) { h.GSOType = vnet.GSOUDP }), length, everything &^ vnet.FeatureHostUFO, vnet.ErrGSOFeature},
		{"gso type 2", with(tso4, func(h *vnet.Header) { h.GSOType = 2 }), length, everything, vnet.ErrGSOType},
		{"gso type 6", with(tso4, func(h *vnet.Header) { h.GSOType = 6 }), length, everything, vnet.ErrGSOType},
		{"gso type 0x7f", with(tso4, func(h *vnet.Header) { h.GSOType = 0x7f }), length, everything, vnet.ErrGSOType},
		{"gso size 0", with(tso4, func(h *vnet.Header) { h.GSOSize = 0 }), length, everything, vnet.ErrGSOSize},
		{"gso without checksum", with(tso4, func(h *vnet.Header) { h.Flags = 0 }), length, everything, vnet.ErrGSOCSum},
		{"tso with the checksum of udp", with(tso4, func(h *vnet.Header) { h.CsumOffset = 6 }), length, everything, vnet.ErrGSOCSum},
		{"uso with the checksum of tcp", with(uso, func(h *vnet.Header) { h.CsumOffset = 16 }), length, everything, vnet.ErrGSOCSum},

		{"header length is not believed", with(tso4, func(h *vnet.Header) { h.HdrLen = 0xffff }), length, everything, nil},
		{"header length 0", with(tso4, func(h *vnet.Header) { h.HdrLen = 0 }), length, everything, nil},
		{"flags to the guest are ignored", vnet.Header{Flags: vnet.FlagDataValid | vnet.FlagRSCInfo | 0xf8}, 60, 0, nil},
		{"number of buffers is ignored", vnet.Header{NumBuffers: 9}, 60, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.h.Check(tt.len, tt.features)
			if tt.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tt.want)
			require.NotContains(t, err.Error(), "error ", "it has a text")
		})
	}
}

func TestCheckEtherType(t *testing.T) {
	const arp = 0x0806
	tests := []struct {
		gso uint8
		ok  []uint16
	}{
		{vnet.GSONone, []uint16{arp, vnet.EtherTypeIPv4, vnet.EtherTypeIPv6}},
		{vnet.GSOTCPv4, []uint16{vnet.EtherTypeIPv4}},
		{vnet.GSOTCPv4 | vnet.GSOECN, []uint16{vnet.EtherTypeIPv4}},
		{vnet.GSOTCPv6, []uint16{vnet.EtherTypeIPv6}},
		{vnet.GSOUDPL4, []uint16{vnet.EtherTypeIPv4, vnet.EtherTypeIPv6}},
		{vnet.GSOUDP, []uint16{vnet.EtherTypeIPv4, vnet.EtherTypeIPv6}},
	}
	for _, tt := range tests {
		h := vnet.Header{GSOType: tt.gso}
		for _, etherType := range []uint16{arp, vnet.EtherTypeIPv4, vnet.EtherTypeIPv6} {
			if err := h.CheckEtherType(etherType); err == nil {
				require.Contains(t, tt.ok, etherType)
			} else {
				require.ErrorIs(t, err, vnet.ErrGSOEtherType)
				require.NotContains(t, tt.ok, etherType)
			}
		}
	}
}

func TestCleanLeavesWhatTheFrameNeeds(t *testing.T) {
	tests := []struct {
		name    string
		h, want vnet.Header
	}{
		{"noise",
			vnet.Header{Flags: vnet.FlagDataValid | 0x80, HdrLen: 2000, GSOSize: 9, CsumStart: 1, CsumOffset: 2, NumBuffers: 3},
			vnet.Header{}},
		{"partial checksum",
			vnet.Header{Flags: vnet.FlagNeedsCSum | vnet.FlagDataValid, HdrLen: 54, GSOSize: 9, CsumStart: 34, CsumOffset: 16},
			vnet.Header{Flags: vnet.FlagNeedsCSum, HdrLen: 54, CsumStart: 34, CsumOffset: 16}},
		{"segmentation",
			vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOTCPv6, HdrLen: 1000, GSOSize: 1440, CsumStart: 54, CsumOffset: 16},
			vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOTCPv6, HdrLen: 1000, GSOSize: 1440, CsumStart: 54, CsumOffset: 16}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.h.Clean(1000)
			require.Equal(t, tt.want, tt.h)
		})
	}
}

func TestCheckCostsNoAllocation(t *testing.T) {
	h := vnet.Header{GSOType: 99}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if h.Check(60, 0) == nil {
			t.Fail()
		}
	}))
}
