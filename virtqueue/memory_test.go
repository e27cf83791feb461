package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestNewMemoryIsUsedAtOnce(t *testing.T) {
	r := newRigOn(t, vqtest.NewMemory(rigMemory, vqtest.Memfd), virtqueue.FromGuest, vqtest.Options{Size: 8})
	for n := 1; n <= 3; n++ {
		r.add(r.buf(n))
	}
	r.d.Publish()
	r.q.Fetch(3)
	r.q.Use(0)

	other := r.m.NewTable(nil) // nothing shared: the host addresses differ
	defer func() { require.NoError(t, other.Release()) }()
	require.NoError(t, r.q.SetMemory(other))
	require.Empty(t, r.q.Pending(), "translations of the old table are gone")
	chains := r.q.Fetch(8)
	require.Equal(t, []uint32{2, 3}, lengths(chains))
	_, ok := r.m.Resolve(other, chains[0].Iov)
	require.True(t, ok)
	_, ok = r.m.Resolve(r.m.Table(), chains[0].Iov)
	require.False(t, ok)

	r.q.UseN(2)
	r.q.Flush()
	require.EqualValues(t, 3, r.d.UsedIdx(), "what was staged before is published too")
}

func TestMemoryWithoutTheRingBreaksTheQueue(t *testing.T) {
	elsewhere := guestmem.NewHeap(guestmem.HeapRegion{GPA: vqtest.BaseGPA, UVA: 0x1000, Mem: make([]byte, 4096)})
	for name, table := range map[string]*guestmem.Table{"none": nil, "elsewhere": elsewhere} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
			r.turn(2)
			require.ErrorIs(t, r.q.SetMemory(table), virtqueue.ErrUnmapped)
			require.ErrorIs(t, r.q.Err(), virtqueue.ErrUnmapped)
			require.Empty(t, r.q.Fetch(8))
			require.False(t, r.q.HasAvail())
			require.False(t, r.q.EnableKicks())
			require.False(t, r.q.Flush())
			r.q.DisableKicks()
			require.Zero(t, r.q.State().Avail, "what was staged was not published")
			r.nothingUsed()
		})
	}
}

func TestTruncatedFileIsAnErrorNotDeath(t *testing.T) {
	const size = 1 << 16
	tests := []struct {
		name  string
		keep  int64 // bytes of the file; the ring is in the first page
		touch func(*virtqueue.Queue)
	}{
		{"ring, fetch", 0, func(q *virtqueue.Queue) { q.Fetch(8) }},
		{"ring, look", 0, func(q *virtqueue.Queue) { q.HasAvail() }},
		{"ring, request kicks", 0, func(q *virtqueue.Queue) { q.EnableKicks() }},
		{"buffer, read", 4096, func(q *virtqueue.Queue) { bytes(q.Fetch(8)[0]) }},
		{"buffer, write", 4096, func(q *virtqueue.Queue) { guestmem.CopyTo(q.Fetch(8)[0].Iov, 0, []byte{1}) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRigOn(t, vqtest.NewMemory(size, vqtest.Memfd), virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: true})
			require.True(t, r.m.Table().Shrinkable())
			r.m.Alloc(1, 4096)
			r.add(r.buf(100))
			r.d.Publish()
			r.m.Truncate(tt.keep)
			err := guestmem.Guard(func() { tt.touch(r.q) })
			var fault *guestmem.FaultError
			require.ErrorAs(t, err, &fault)
			require.NotZero(t, fault.Addr)
		})
	}
	t.Run("ring, start", func(t *testing.T) {
		m := vqtest.NewMemory(size, vqtest.Memfd)
		defer m.Close()
		d := vqtest.NewDriver(m, vqtest.Options{Size: 8})
		m.Truncate(0)
		_, err := virtqueue.New(m.Table(), d.Layout())
		var fault *guestmem.FaultError
		require.ErrorAs(t, err, &fault)
		cfg := d.Layout()
		require.ErrorAs(t, cfg.Check(m.Table()), &fault)
	})
}
