package seqnum_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
)

// What comes first does not depend on where the numbers wrap.
func TestNumbersAreComparedAcrossTheWrap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := seqnum.From(rapid.Uint32().Draw(t, "v"))
		distance := rapid.Uint32Range(1, math.MaxInt32).Draw(t, "distance")
		w := v.Plus(distance)
		require.True(t, v.Before(w) && v.AtMost(w) && !v.After(w) && !v.AtLeast(w))
		require.True(t, w.After(v) && w.AtLeast(v) && !w.Before(v) && !w.AtMost(v))
		require.Equal(t, distance, w.Since(v))
		require.Equal(t, v, w.Minus(distance))
		require.NotEqual(t, v, w)
	})
}

func TestANumberIsNeitherBeforeNorAfterItself(t *testing.T) {
	for _, n := range []uint32{0, 1, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32} {
		v := seqnum.From(n)
		require.True(t, v.AtMost(v) && v.AtLeast(v))
		require.False(t, v.Before(v) || v.After(v))
		require.Zero(t, v.Since(v))
		require.Equal(t, n, v.Uint32())
	}
}

func TestARangeMayLieAcrossTheWrap(t *testing.T) {
	r := seqnum.Range{First: seqnum.From(math.MaxUint32 - 1), End: seqnum.From(2)}
	require.False(t, r.IsEmpty())
	require.EqualValues(t, 4, r.Len())
	require.True(t, seqnum.Range{First: r.End, End: r.End}.IsEmpty())
	require.True(t, seqnum.Range{}.IsEmpty())
}
