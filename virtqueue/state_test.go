package virtqueue_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestAStateComesBackFromItsBase(t *testing.T) {
	for base := range uint32(1 << 16) {
		s, err := virtqueue.StateFromBase(base)
		require.NoError(t, err)
		require.Equal(t, virtqueue.State{Avail: uint16(base), Used: uint16(base)}, s)
		require.Equal(t, base, s.Base())
	}
}

func TestABaseOfMoreThan16BitsIsRefused(t *testing.T) {
	for _, base := range []uint32{1 << 16, 0x80008000, math.MaxUint32} {
		_, err := virtqueue.StateFromBase(base)
		require.ErrorIs(t, err, virtqueue.ErrConfig, "%#x", base)
	}
}

func TestAQueueGoesOnFromItsState(t *testing.T) {
	for _, base := range []uint16{0, 7, 65534} {
		r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, Base: base})
		for range 4 {
			r.add(r.buf(16))
		}
		r.d.Publish()
		r.q.Fetch(4)
		r.q.UseN(3)
		r.q.Flush()
		stopped := r.q.State()
		require.Equal(t, virtqueue.SplitState(base+3), stopped)

		cfg := r.q.Config()
		cfg.State, cfg.StateIsExact = stopped, true
		next, err := virtqueue.New(r.d.Memory().Table(), cfg)
		require.NoError(t, err)
		require.Equal(t, stopped, next.State())
		require.Len(t, next.Fetch(4), 1)
	}
}

func TestAStateThatNoSplitRingHasIsRefused(t *testing.T) {
	for name, s := range map[string]virtqueue.State{
		"used behind available":  {Avail: 2, Used: 1},
		"used before available":  {Avail: 1, Used: 2},
		"available wrap counter": {AvailWrap: true},
		"used wrap counter":      {UsedWrap: true},
		"both":                   {Avail: 3, Used: 3, AvailWrap: true, UsedWrap: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := vqtest.NewDriver(vqtest.NewMemory(rigMemory, vqtest.Heap), vqtest.Options{Size: 8})
			cfg := d.Layout()
			require.NoError(t, cfg.Check(d.Memory().Table()))
			cfg.State = s
			require.ErrorIs(t, cfg.Check(d.Memory().Table()), virtqueue.ErrConfig)
			_, err := virtqueue.New(d.Memory().Table(), cfg)
			require.ErrorIs(t, err, virtqueue.ErrConfig)
		})
	}
}
