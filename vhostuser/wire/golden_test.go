package wire

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded is one message of a real front end.
type recorded struct {
	line int
	fds  int
	b    []byte
}

func readRecorded(t testing.TB, name string) []recorded {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	var msgs []recorded
	s := bufio.NewScanner(f)
	for line := 1; s.Scan(); line++ {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		r := recorded{line: line}
		var text string
		_, err := fmt.Sscan(s.Text(), &r.fds, &text)
		require.NoError(t, err)
		r.b, err = hex.DecodeString(text)
		require.NoError(t, err)
		msgs = append(msgs, r)
	}
	require.NoError(t, s.Err())
	return msgs
}

func recordedFiles() []string {
	return []string{"testdata/qemu-7.2.txt", "testdata/qemu-7.2-mq.txt", "testdata/qemu-11.1.txt"}
}

func TestRecordedMessagesDecodeAndEncodeToTheSameBytes(t *testing.T) {
	for _, file := range recordedFiles() {
		for _, r := range readRecorded(t, file) {
			t.Run(fmt.Sprintf("%s:%d", file, r.line), func(t *testing.T) {
				h, err := DecodeHeader(r.b)
				require.NoError(t, err)
				m, err := Decode(h, r.b[HeaderSize:], r.fds)
				require.NoError(t, err)
				require.Equal(t, r.fds, m.FDs())
				require.Equal(t, r.b, m.Append(nil))
			})
		}
	}
}

// The rows are lines of the files in testdata, which tell how they were recorded.
func TestDecodeOfWhatQEMUSends(t *testing.T) {
	tests := []struct {
		hex  string
		fds  int
		want Message
	}{
		{"010000000100000000000000", 0, Message{Request: GetFeatures}},
		{"1000000001000000080000003d00000000000000", 0, Message{Request: SetProtocolFeatures,
			Value: ProtocolMQ | ProtocolRARP | ProtocolReplyAck | ProtocolNetMTU | ProtocolBackendReq}},
		{"150000000900000000000000", 1, Message{Request: SetBackendReqFD, NeedReply: true}},
		{"0200000001000000080000000800004001000000", 0, Message{Request: SetFeatures, Value: 1<<32 | FeatureProtocolFeatures | 1<<3}},
		{"140000000900000008000000dc05000000000000", 0, Message{Request: NetSetMTU, NeedReply: true, Value: 1500}},
		{"1200000001000000080000000300000000000000", 0, Message{Request: SetVringEnable, Ring: 3}},
		{"1200000001000000080000000100000001000000", 0, Message{Request: SetVringEnable, Ring: 1, Num: 1}},
		{"0800000001000000080000000100000000010000", 0, Message{Request: SetVringNum, Ring: 1, Num: 256}},
		{"0a00000001000000080000000100000008000000", 0, Message{Request: SetVringBase, Ring: 1, Num: 8}},
		{"0b00000001000000080000000100000000000000", 0, Message{Request: GetVringBase, Ring: 1}},
		{"0c00000001000000080000000100000000000000", 1, Message{Request: SetVringKick, Ring: 1}},
		{"0d00000001000000080000000100000000000000", 1, Message{Request: SetVringCall, Ring: 1}},
		{"0e00000001000000080000000100000000000000", 1, Message{Request: SetVringErr, Ring: 1}},
		{"1300000001000000080000005254001234560000", 0, Message{Request: SendRARP, MAC: [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}}},
		{"09000000010000002800000001000000000000000000f673f77f00000020f673f77f00000010f673f77f00000030f60300000000", 0,
			Message{Request: SetVringAddr, Ring: 1, Addr: RingAddr{Desc: 0x7ff773f60000, Used: 0x7ff773f62000, Avail: 0x7ff773f61000, Log: 0x3f63000}}},
		{"09000000090000002800000001000000010000000000f673f77f00000020f673f77f00000010f673f77f00000030f60300000000", 0,
			Message{Request: SetVringAddr, NeedReply: true, Ring: 1,
				Addr: RingAddr{Desc: 0x7ff773f60000, Used: 0x7ff773f62000, Avail: 0x7ff773f61000, Log: 0x3f63000, Logged: true}}},
		{"06000000010000001000000000200000000000000000000000000000", 1, Message{Request: SetLogBase, LogSize: 0x2000}},
		{"070000000100000000000000", 1, Message{Request: SetLogFD}},
		{"0500000009000000480000000200000000000000" +
			"000000000000000000000a000000000000f0ff6ff77f00000000000000000000" +
			"00000c00000000000000f4030000000000f00b70f77f000000000c0000000000", 2,
			Message{Request: SetMemTable, NeedReply: true, Regions: []Region{
				{GPA: 0, Size: 0xa0000, UVA: 0x7ff76ffff000},
				{GPA: 0xc0000, Size: 0x3f40000, UVA: 0x7ff7700bf000, Offset: 0xc0000},
			}}},
	}
	for _, tt := range tests {
		t.Run(tt.want.Request.String(), func(t *testing.T) {
			b, err := hex.DecodeString(tt.hex)
			require.NoError(t, err)
			h, err := DecodeHeader(b)
			require.NoError(t, err)
			got, err := Decode(h, b[HeaderSize:], tt.fds)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}
