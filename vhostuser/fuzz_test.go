package vhostuser

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/vhostuser/wire"
)

// FuzzSession sends a stream of messages that the fuzzer composes of valid and invalid parts. The fake device checks
// what it is told, the harness that nothing is left behind.
func FuzzSession(f *testing.F) {
	for _, requests := range [][]byte{
		{1, 15, 16, 3, 2, 5, 8, 10, 9, 12, 13, 18, 11},
		{2, 5, 8, 9, 12, 8, 10, 9, 2, 18, 4, 5},
		{5, 5, 9, 12, 10, 14, 20, 19, 21, 22, 99},
		{16, 2, 36, 37, 8, 10, 9, 12, 18, 37, 37, 38, 34, 18, 2, 8, 9, 12, 38, 37, 5},
	} {
		var b []byte
		for _, r := range requests {
			b = append(b, r, 0, 0, r)
		}
		f.Add(b)
		f.Add(append(b, b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 400 {
			return
		}
		h := newHarness(t, 1)
		go h.drain()
		for len(b) >= 4 {
			m, list := h.compose(b[0], b[1], b[2], b[3])
			b = b[4:]
			if err := h.fe.Write(m, list...); err != nil {
				return // hung up
			}
		}
	})
}

// drain reads replies, so that the session is not held up.
func (h *harness) drain() {
	for {
		// A reply to another request is an ErrFraming, and as good.
		if _, err := h.fe.ReadReply(wire.GetFeatures); err != nil && !errors.Is(err, wire.ErrFraming) {
			return
		}
	}
}

// compose makes one message: what, to which ring, how spoiled, and with what in it.
func (h *harness) compose(request, ring, spoil, value byte) ([]byte, []int) {
	i := int(ring) % len(h.setup.Rings)
	r := h.setup.Rings[i]
	m := wire.Message{Request: wire.Request(request), Ring: uint32(i), NeedReply: spoil&1 != 0}
	var list []int
	switch m.Request {
	case wire.SetFeatures:
		m.Value = []uint64{fakeFeatures | wire.FeatureProtocolFeatures, fakeFeatures, 0, uint64(value)}[value%4]
	case wire.SetMemTable:
		regions := h.memory(int(value))
		if value&2 != 0 {
			regions = shifted(regions, 1<<20)
		}
		m.Regions = []wire.Region{{GPA: uint64(regions[0].GPA), Size: regions[0].Size, UVA: uint64(regions[0].UVA)}}
		list = []int{regions[0].FD}
	case wire.SetProtocolFeatures:
		const slots = wire.ProtocolReplyAck | wire.ProtocolConfigureMemSlots | wire.ProtocolResetDevice
		m.Value = []uint64{slots, slots | wire.ProtocolGPAAddresses, 0, uint64(value)}[value%4]
	case wire.AddMemReg, wire.RemMemReg:
		m.Regions, list = h.composeSlot(value)
		if m.Request == wire.RemMemReg && value&8 != 0 {
			list = nil
		}
	case wire.SetVringNum:
		m.Num = []uint32{r.Num, r.Num, 0, uint32(value)}[value%4]
	case wire.SetVringBase:
		m.Num = uint32(value)
	case wire.SetVringAddr:
		m.Addr = ringAddr(r)
		if value%4 == 3 {
			m.Addr.Used += uint64(value) << 12
		}
	case wire.SetVringEnable:
		m.Num = uint32(value % 2)
	case wire.SetVringKick, wire.SetVringCall, wire.SetVringErr:
		if m.NoFD = value%4 == 3; !m.NoFD {
			list = []int{r.KickFD}
		}
	case wire.NetSetMTU:
		m.Value = 1400 + uint64(value)
	case wire.SetBackendReqFD:
		list = []int{r.CallFD}
	}
	b := m.Append(nil)
	switch spoil >> 4 { // most messages stay whole
	case 1:
		list = append(list, r.CallFD, r.KickFD)
	case 2:
		list = nil
	case 3:
		b[len(b)-1] ^= value
	case 4:
		binary.LittleEndian.PutUint32(b[8:], uint32(value))
	case 5:
		b[4] ^= value
	}
	return b, list
}

// composeSlot is a region of memory: that with the rings, or one of several pages of it.
func (h *harness) composeSlot(value byte) ([]wire.Region, []int) {
	memory := h.setup.Memory[0]
	r := wire.Region{GPA: uint64(memory.GPA), Size: memory.Size, UVA: uint64(memory.UVA)}
	if value&1 != 0 {
		page := uint64(value>>4) * 4096
		r = wire.Region{GPA: 1<<40 + page, Size: 4096 + page&4096, UVA: 1<<40 + page, Offset: page}
	}
	return []wire.Region{r}, []int{memory.FD}
}

func TestFuzzSeedsReachTheDevice(t *testing.T) {
	h := newHarness(t, 1)
	go h.drain()
	for _, request := range []byte{2, 5, 8, 10, 9, 12, 18} {
		b, list := h.compose(request, 0, 0, 0)
		require.NoError(t, h.fe.Write(b, list...))
	}
	h.fe.Close()
	h.wait()
	require.Contains(t, h.dev.takeCalls(), "StartRing 0 size 64 base 0")
}
