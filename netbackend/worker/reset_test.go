package worker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestAPortLearnsThatItsDriverHasResetItsDevice(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	p := b.port
	reset := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.states[len(p.states)-1].Reset
	}
	b.up()
	require.NoError(t, b.DriverGone())
	require.False(t, reset(), "rings run")
	stop := func() {
		for i := range b.fds {
			_, err := b.StopRing(i)
			require.NoError(t, err)
			require.NoError(t, b.EnableRing(i, false))
		}
	}
	stop()
	require.False(t, reset(), "a pause")
	require.NoError(t, b.DriverGone())
	require.True(t, reset())
	b.up()
	require.False(t, reset(), "a driver has begun")
	stop()
	require.NoError(t, b.DriverReset())
	require.True(t, reset())
	require.NoError(t, b.Reset())
	require.False(t, reset(), "the front end is gone, which is something else")
}
