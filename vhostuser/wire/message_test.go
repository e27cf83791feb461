package wire

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

func le32(values ...uint32) []byte { return appendUint32s(nil, values...) }
func le64(values ...uint64) []byte { return appendUint64s(nil, values...) }

func TestDecodeHeaderRefuses(t *testing.T) {
	tests := []struct {
		name                string
		request, flags, len uint32
	}{
		{"version 0", 1, 0, 0},
		{"version 2", 1, 2, 0},
		{"version 3", 1, 3, 0},
		{"a reply", 1, version | flagReply, 0},
		{"a payload that no message has", 5, version, MaxPayload + 1},
		{"a payload of 4 GiB", 5, version, 1<<32 - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeHeader(le32(tt.request, tt.flags, tt.len))
			require.ErrorIs(t, err, ErrFraming)
		})
	}
}

func TestDecodeHeaderIgnoresReservedFlags(t *testing.T) {
	h, err := DecodeHeader(le32(1, version|flagNeedReply|1<<31, 0))
	require.NoError(t, err)
	require.Equal(t, Header{Request: GetFeatures, NeedReply: true}, h)
}

func TestDecodeRefuses(t *testing.T) {
	regions := func(n uint32, entries int) []byte { return append(le32(n, 0), make([]byte, entries*regionSize)...) }
	tests := []struct {
		name    string
		request Request
		payload []byte
		fds     int
		want    error
	}{
		{"request 0", 0, nil, 0, ErrUnknown},
		{"a request of a later protocol", 45, nil, 0, ErrUnknown},
		{"IOTLB, which is not negotiated", 22, make([]byte, 32), 0, ErrUnknown},
		{"GET_CONFIG, which is not negotiated", 24, make([]byte, 12), 0, ErrUnknown},
		{"a request that needs more than 16 bits", 0x10001, nil, 0, ErrUnknown},

		{"GET_FEATURES with a payload", GetFeatures, le64(0), 0, ErrFraming},
		{"SET_FEATURES without a payload", SetFeatures, nil, 0, ErrFraming},
		{"SET_FEATURES with half a payload", SetFeatures, le32(0), 0, ErrFraming},
		{"SET_FEATURES with too much payload", SetFeatures, le64(0, 0), 0, ErrFraming},
		{"SET_VRING_NUM with a short payload", SetVringNum, le32(0), 0, ErrFraming},
		{"SET_VRING_ADDR with a short payload", SetVringAddr, make([]byte, addrSize-1), 0, ErrFraming},
		{"SET_MEM_TABLE without a count", SetMemTable, le32(1), 0, ErrFraming},
		{"ADD_MEM_REG without its padding", AddMemReg, make([]byte, regionSize), 1, ErrFraming},
		{"ADD_MEM_REG of a later protocol", AddMemReg, make([]byte, slotSize+8), 1, ErrFraming},
		{"ADD_MEM_REG that ends postcopy, which is not negotiated", AddMemReg, le64(0), 0, ErrFraming},
		{"REM_MEM_REG without a region", RemMemReg, le64(0), 0, ErrFraming},
		{"RESET_DEVICE with a payload", ResetDevice, le64(0), 0, ErrFraming},

		{"no region", SetMemTable, regions(0, 0), 0, ErrValue},
		{"nine regions", SetMemTable, regions(9, 9), 9, ErrValue},
		{"as many regions as a payload holds", SetMemTable, regions(127, 127), 9, ErrValue},
		{"ADD_MEM_REG without a descriptor", AddMemReg, make([]byte, slotSize), 0, ErrValue},
		{"ADD_MEM_REG with two descriptors", AddMemReg, make([]byte, slotSize), 2, ErrValue},
		{"REM_MEM_REG with two descriptors", RemMemReg, make([]byte, slotSize), 2, ErrValue},
		{"GET_MAX_MEM_SLOTS with a descriptor", GetMaxMemSlots, nil, 1, ErrValue},
		{"4 Gi regions", SetMemTable, regions(1<<32-1, 8), 8, ErrValue},
		{"more regions than payload", SetMemTable, regions(2, 1), 2, ErrValue},
		{"fewer descriptors than regions", SetMemTable, regions(2, 2), 1, ErrValue},
		{"more descriptors than regions", SetMemTable, regions(2, 2), 3, ErrValue},
		{"a descriptor with GET_FEATURES", GetFeatures, nil, 1, ErrValue},
		{"a descriptor with SET_VRING_NUM", SetVringNum, le32(0, 256), 1, ErrValue},
		{"SET_VRING_KICK without a descriptor", SetVringKick, le64(0), 0, ErrValue},
		{"SET_VRING_KICK with two descriptors", SetVringKick, le64(0), 2, ErrValue},
		{"SET_VRING_CALL with NOFD and a descriptor", SetVringCall, le64(noFD), 1, ErrValue},
		{"SET_BACKEND_REQ_FD without a descriptor", SetBackendReqFD, nil, 0, ErrValue},
		{"a ring index that 8 bits do not hold", SetVringErr, le64(1 << 9), 1, ErrValue},
		{"a ring index beyond 32 bits", SetVringErr, le64(1 << 40), 1, ErrValue},
		{"enable 2", SetVringEnable, le32(0, 2), 0, ErrValue},
		{"an unknown flag in SET_VRING_ADDR", SetVringAddr, append(le32(0, 2), make([]byte, 32)...), 0, ErrValue},
		{"SET_LOG_BASE as in the kernel", SetLogBase, le64(0), 1, ErrFraming},
		{"SET_LOG_BASE without a descriptor", SetLogBase, le64(0, 0), 0, ErrValue},
		{"SET_LOG_BASE with two descriptors", SetLogBase, le64(0, 0), 2, ErrValue},
		{"SET_LOG_FD without a descriptor", SetLogFD, nil, 0, ErrValue},
		{"an MTU below 68", NetSetMTU, le64(67), 0, ErrValue},
		{"an MTU above 65535", NetSetMTU, le64(65536), 0, ErrValue},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode(Header{Request: tt.request, Size: uint32(len(tt.payload))}, tt.payload, tt.fds)
			require.ErrorIs(t, err, tt.want)
		})
	}
}

func TestDecodeTakesTableWithUnusedEntries(t *testing.T) {
	payload := append(le32(1, 0), make([]byte, 2*regionSize)...)
	m, err := Decode(Header{Request: SetMemTable}, payload, 1)
	require.NoError(t, err)
	require.Len(t, m.Regions, 1)
}

func TestDecodeTakesASlotWithAndWithoutADescriptorToRemove(t *testing.T) {
	want := Message{Request: RemMemReg, Regions: []Region{{GPA: 1, Size: 2, UVA: 3, Offset: 4}}}
	for fds := range 2 {
		m, err := Decode(Header{Request: RemMemReg}, le64(0xdead, 1, 2, 3, 4), fds)
		require.NoError(t, err)
		require.Equal(t, want, m)
	}
}

func TestATableOfTooManyRegionsIsRefusedByTheNameOfTheLimit(t *testing.T) {
	payload := append(le32(9, 0), make([]byte, 9*regionSize)...)
	_, err := Decode(Header{Request: SetMemTable}, payload, 9)
	require.ErrorContains(t, err, "9 memory regions in a table, want 1 to 8")
}

func TestDecodeKeepsRingNumbersForTheSessionToJudge(t *testing.T) {
	for _, num := range []uint32{0, 3, 1 << 15, 1<<32 - 1} {
		m, err := Decode(Header{Request: SetVringNum}, le32(1<<16, num), 0)
		require.NoError(t, err)
		require.Equal(t, uint32(1<<16), m.Ring)
		require.Equal(t, num, m.Num)
	}
}

func TestReplies(t *testing.T) {
	ack := AppendU64(nil, SetMemTable, 1)
	require.Equal(t, append(le32(5, 5, 8), le64(1)...), ack, "flags are exactly version and reply")
	base := AppendState(nil, GetVringBase, 3, 0x1234)
	require.Equal(t, le32(11, 5, 8, 3, 0x1234), base)

	r, err := DecodeReply(base)
	require.NoError(t, err)
	require.Equal(t, Reply{Request: GetVringBase, Value: 0x1234<<32 | 3}, r)

	binary.LittleEndian.PutUint32(ack[4:], 1)
	_, err = DecodeReply(ack)
	require.ErrorIs(t, err, ErrFraming)
	binary.LittleEndian.PutUint32(base[8:], 24)
	_, err = DecodeReply(base)
	require.ErrorIs(t, err, ErrFraming)
}

func TestNames(t *testing.T) {
	require.Equal(t, "SET_MEM_TABLE", SetMemTable.String())
	require.Equal(t, "message 45", Request(45).String())
	require.Equal(t, []string{"MQ", "REPLY_ACK", "BIT_16"}, ProtocolNames(ProtocolMQ|ProtocolReplyAck|1<<16))
	require.True(t, GetVringBase.HasReply())
	require.False(t, SetMemTable.HasReply())
	require.False(t, Request(45).HasReply())
}
