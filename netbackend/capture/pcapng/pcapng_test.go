package pcapng

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBlocksAreReadAsTheyWereWritten(t *testing.T) {
	b := AppendSection(nil, "vring")
	b = AppendInterface(b, &InterfaceInfo{Name: "a", Description: "abcde", Filter: "tcp", SnapLen: 128})
	for n := range 9 {
		b = AppendPacket(b, &PacketInfo{Time: time.Unix(0, 1<<60+5), Inbound: n%2 == 0, Length: 100, Data: make([]byte, n)})
	}
	b = AppendStatistics(b, &StatisticsInfo{Interface: 3, Time: time.Unix(0, 1<<60+7), Received: 1 << 40, Dropped: 9})
	var kinds []uint32
	var whole []byte
	s := NewScanner(bytes.NewReader(b))
	for {
		block, err := s.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.Zero(t, len(block.Text)%4)
		kinds, whole = append(kinds, block.Kind), append(whole, block.Text...)
		if counters, ok := block.Counters(); ok {
			require.Equal(t, StatisticsInfo{Interface: 3, Time: time.Unix(0, 1<<60+7), Received: 1 << 40, Dropped: 9}, counters)
		}
	}
	require.Equal(t, []uint32{Section, Interface, 6, 6, 6, 6, 6, 6, 6, 6, 6, Statistics}, kinds)
	require.Equal(t, b, whole)
}

func TestWritingPacketsAllocatesNothing(t *testing.T) {
	b, data := make([]byte, 0, 4096), make([]byte, 1500)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b = AppendPacket(b[:0], &PacketInfo{Length: 1500, Data: data})
	}))
}

// Streams that are cut off, or changed somewhere, end; none makes a reader hold more than a block.
func TestAnyStreamEnds(t *testing.T) {
	whole := AppendStatistics(AppendSection(nil, "x"), &StatisticsInfo{Time: time.Unix(1, 0), Received: 5})
	for at := range whole {
		for _, value := range []byte{0, 1, 0x7f, 0xff} {
			changed := bytes.Clone(whole)
			changed[at] = value
			for s := NewScanner(bytes.NewReader(changed)); ; {
				b, err := s.Next()
				if err != nil {
					break
				}
				b.Counters()
				require.LessOrEqual(t, len(b.Text), maxBlock)
			}
		}
	}
}
