package udp

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// The guest writes to its buffer after its datagram was looked at, and before the kernel reads it.
func TestTheFirstByteThatWasLookedAtIsTheOneThatLeaves(t *testing.T) {
	buffer := []byte("....\x40 a datagram of the guest, and more")
	q := txItem{iov: []guestmem.Iovec{guestmem.PieceOf(buffer[:10]), guestmem.PieceOf(buffer[10:])}, offset: 4, n: 24, segment: 24, known: true}
	guestmem.CopyFrom(q.first[:], q.iov, q.offset)
	buffer[4] = 0xc0
	pieces, ok := q.knownPieces(make([]guestmem.Iovec, 0, 3), 0, q.n)
	require.True(t, ok)
	leaves := make([]byte, 100)
	require.Equal(t, "\x40 a datagram of the gues", string(leaves[:guestmem.CopyFrom(leaves, pieces, 0)]))
	_, ok = q.knownPieces(make([]guestmem.Iovec, 0, 2), 0, q.n)
	require.False(t, ok)
	_, ok = q.knownPieces(nil, 0, q.n)
	require.False(t, ok)
}
