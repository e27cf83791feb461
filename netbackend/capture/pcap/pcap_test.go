package pcap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The bytes are those of draft-ietf-opsawg-pcap, sections 4 and 5.
func TestFilesHaveTheBytesOfTheFormat(t *testing.T) {
	b := AppendHeader(nil, 65549)
	b = AppendPacket(b, time.Unix(0x01020304, 5006_999), 0x0708, []byte{0xaa, 0xbb, 0xcc})
	require.Equal(t, []byte{
		0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0d, 0, 1, 0, 1, 0, 0, 0,
		4, 3, 2, 1, 0x8e, 0x13, 0, 0, 3, 0, 0, 0, 8, 7, 0, 0, 0xaa, 0xbb, 0xcc,
	}, b)
}

func TestAppendingPacketsAllocatesNothing(t *testing.T) {
	b, data, at := make([]byte, 0, 4096), make([]byte, 1514), time.Unix(1, 0)
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = AppendPacket(b, at, len(data), data) }))
}
