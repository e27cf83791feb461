package ring_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/internal/ring"
)

func TestNeedEventAsTheSpecificationDefinesIt(t *testing.T) {
	// An event is due if one of the steps from before to after passes the index: before <= event < after.
	for _, before := range []uint16{0, 1, 100, 32767, 65530, 65535} {
		for steps := range uint16(40) {
			after := before + steps
			for d := -50; d < 90; d++ {
				event := before + uint16(d)
				want := d >= 0 && d < int(steps)
				require.Equal(t, want, ring.NeedEvent(event, after, before), "%d from %d to %d", event, before, after)
			}
		}
	}
}

func TestAreaLengths(t *testing.T) {
	require.EqualValues(t, 4096, ring.DescLen(256))
	require.EqualValues(t, 516, ring.AvailLen(256, false))
	require.EqualValues(t, 518, ring.AvailLen(256, true))
	require.EqualValues(t, 2052, ring.UsedLen(256, false))
	require.EqualValues(t, 2054, ring.UsedLen(256, true))
	require.EqualValues(t, 16*32768, ring.DescLen(32768))
}

func TestDecodeDesc(t *testing.T) {
	var b [ring.DescSize]byte
	binary.LittleEndian.PutUint64(b[0:], 0x1122334455667788)
	binary.LittleEndian.PutUint32(b[8:], 0x99aabbcc)
	binary.LittleEndian.PutUint16(b[12:], ring.FlagNext)
	binary.LittleEndian.PutUint16(b[14:], 7)
	require.Equal(t, ring.Desc{Addr: 0x1122334455667788, Len: 0x99aabbcc, Flags: ring.FlagNext, Next: 7}, ring.DecodeDesc(&b))
}
