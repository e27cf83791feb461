package quicproof

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// numbered is an identifier.
func numbered(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

func TestAnIdentifierCountsOnceUntilItIsForgotten(t *testing.T) {
	var s identifiers
	s.init()
	require.True(t, s.claim(numbered(1), 0))
	require.True(t, s.claim(numbered(2), 10))
	require.False(t, s.claim(numbered(1), memory-1))
	require.True(t, s.claim(numbered(1), memory))
	require.False(t, s.claim(numbered(2), memory+9))
	require.True(t, s.claim(numbered(2), memory+10))
	require.False(t, s.claim(numbered(1), 2*memory-1))
}

func TestTooManyIdentifiersForgetNone(t *testing.T) {
	var s identifiers
	s.init()
	for i := range maxSeen {
		require.True(t, s.claim(numbered(i), int64(i)))
	}
	require.False(t, s.claim(numbered(maxSeen), maxSeen))
	require.False(t, s.claim(numbered(0), maxSeen))
	for i := range 3 * maxSeen {
		require.True(t, s.claim(numbered(maxSeen+i), memory+int64(i)*memory/maxSeen))
		require.LessOrEqual(t, len(s.known), maxSeen)
		require.LessOrEqual(t, len(s.order), 2*maxSeen+2)
	}
}
