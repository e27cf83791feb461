package machine

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTicksOfAllProcessors(t *testing.T) {
	before, err := parseCPUTicks("cpu  100 10 50 1000 40 5 5 30 7 3\ncpu0 1 2 3\n")
	require.NoError(t, err)
	require.Equal(t, CPUTicks{Total: 1240, Busy: 170, Steal: 30}, before)
	after := CPUTicks{Total: 1340, Busy: 220, Steal: 35}
	require.InDelta(t, 0.5, after.Sub(before).BusyShare(), 1e-9)
	require.InDelta(t, 0.05, after.Sub(before).StealShare(), 1e-9)
	require.Zero(t, CPUTicks{}.StealShare())
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8", "cpu a 2 3 4 5 6 7 8"} {
		_, err := parseCPUTicks(bad)
		require.ErrorContains(t, err, "/proc/stat begins with", bad)
	}
	now, err := ReadCPUTicks()
	require.NoError(t, err)
	require.Positive(t, now.Total)
}
