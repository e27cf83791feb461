package limits

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNothingIsToldTwiceAndNotMoreThanThereIsRoomFor(t *testing.T) {
	var told Told[int]
	for i := range MostTold {
		require.True(t, told.IsNew(i))
		require.False(t, told.IsNew(i), "twice")
	}
	require.False(t, told.IsNew(MostTold), "one more")
	told.Forget()
	require.True(t, told.IsNew(MostTold))
	require.True(t, told.IsNew(0), "as if it were the first time")
}
