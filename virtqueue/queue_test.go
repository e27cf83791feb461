package virtqueue_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestChainCarriesTheDriversBytesInOrder(t *testing.T) {
	for _, backing := range []vqtest.Backing{vqtest.Heap, vqtest.Memfd} {
		t.Run(backing.String(), func(t *testing.T) {
			r := newRigOn(t, vqtest.NewMemory(rigMemory, backing), virtqueue.FromGuest, vqtest.Options{Size: 8})
			hello, world := r.buf(6), r.buf(5)
			copy(r.m.Bytes(hello.GPA, 6), "hello ")
			copy(r.m.Bytes(world.GPA, 5), "world")
			head := r.add(hello, world)
			r.d.Publish()

			chains := r.q.Fetch(virtqueue.MaxBatch)
			require.Len(t, chains, 1)
			require.Equal(t, "hello world", string(bytes(chains[0])))
			require.Len(t, chains[0].Iov, 2)
			r.q.Use(0)
			r.nothingUsed() // until Flush
			require.True(t, r.q.Flush())
			got, written := r.used()
			require.Equal(t, head, got)
			require.Zero(t, written)
		})
	}
}

func TestWrittenLengthReachesTheDriver(t *testing.T) {
	r := newRig(t, virtqueue.ToGuest, vqtest.Options{Size: 8})
	r.add(r.buf(1500))
	r.d.Publish()
	require.Equal(t, []uint32{1500}, lengths(r.q.Fetch(1)))
	r.q.Use(60)
	r.q.Flush()
	_, written := r.used()
	require.EqualValues(t, 60, written)
}

func TestNothingIsFetchedBeforeItIsPublished(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	r.add(r.buf(1))
	require.Empty(t, r.q.Fetch(1))
	require.False(t, r.q.HasAvail())
	r.d.Publish()
	require.True(t, r.q.HasAvail())
	require.Len(t, r.q.Fetch(1), 1)
	require.False(t, r.q.HasAvail())
}

func TestFetchOffersUnusedChainsAgainBeforeNewOnes(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	for n := 1; n <= 4; n++ {
		r.add(r.buf(n))
	}
	r.d.Publish()
	require.Equal(t, []uint32{1, 2}, lengths(r.q.Fetch(2)))
	r.q.Use(0)
	require.Equal(t, []uint32{2}, lengths(r.q.Pending()))
	require.Equal(t, []uint32{2, 3, 4}, lengths(r.q.Fetch(8)))
	require.Equal(t, []uint32{2}, lengths(r.q.Fetch(1)), "a smaller limit hides chains")
	require.Equal(t, []uint32{2, 3, 4}, lengths(r.q.Pending()), "but does not forget them")
	require.Empty(t, r.q.Fetch(0))
}

func TestFetchIsLimitedToABatch(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 512})
	for range 512 {
		r.add(r.buf(1))
	}
	r.d.Publish()
	require.Len(t, r.q.Fetch(1000), virtqueue.MaxBatch)
	r.q.UseN(200)
	require.Len(t, r.q.Fetch(1000), virtqueue.MaxBatch)
	r.q.UseN(256)
	require.Len(t, r.q.Fetch(1000), 512-200-256)
}

func TestManyPiecesLimitABatchButNeverStopTheQueue(t *testing.T) {
	const pieces, chains = 1000, 8
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8192})
	bufs := make([]vqtest.Buf, pieces)
	for i := range chains {
		for j := range bufs {
			bufs[j] = vqtest.Buf{GPA: vqtest.BaseGPA + guestGPA(2*j+i*10000), Len: 1}
		}
		r.add(bufs...)
	}
	r.d.Publish()
	for i := range chains {
		got := r.q.Fetch(virtqueue.MaxBatch)
		require.NotEmpty(t, got)
		for k, c := range got { // those fetched before have moved to make room
			require.Len(t, c.Iov, pieces)
			where, ok := r.m.Resolve(r.m.Table(), c.Iov)
			require.True(t, ok)
			require.Equal(t, vqtest.BaseGPA+guestGPA(10000*(i+k)), where[0].GPA)
			require.Equal(t, where[0].GPA+2*(pieces-1), where[pieces-1].GPA)
		}
		r.q.Use(0)
	}
	require.EqualValues(t, chains, r.q.Stats().Chains)
	require.Zero(t, r.q.Stats().BadChains)
}

func TestRewindOffersFetchedChainsAgain(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	for n := 1; n <= 3; n++ {
		r.add(r.buf(n))
	}
	r.d.Publish()
	r.q.Fetch(3)
	r.q.Use(0)
	r.q.Rewind()
	require.Empty(t, r.q.Pending())
	require.EqualValues(t, 1, r.q.State().Avail)
	require.Equal(t, []uint32{2, 3}, lengths(r.q.Fetch(3)))
}

func TestBaseIsTheFirstUnusedEntry(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, Base: 65534})
	for range 5 {
		r.add(r.buf(1))
	}
	r.d.Publish()
	r.q.Fetch(5)
	require.EqualValues(t, 65534, r.q.State().Avail)
	r.q.UseN(3)
	r.q.Flush()
	require.EqualValues(t, 1, r.q.State().Avail, "the index wraps around")
	require.EqualValues(t, 1, r.d.UsedIdx())
}

func TestUsedIndexWinsOverBase(t *testing.T) {
	tests := []struct {
		name              string
		base, used, avail uint16
		want              uint16
		resumed           bool
	}{
		{"same", 10, 10, 12, 10, false},
		{"back end died after using", 10, 12, 14, 12, true},
		{"front end told what was available", 14, 10, 14, 10, true},
		{"all used, across zero", 65535, 2, 2, 2, true},
		{"used index is impossible", 10, 9000, 12, 10, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := vqtest.NewMemory(rigMemory, vqtest.Heap)
			d := vqtest.NewDriver(m, vqtest.Options{Size: 8, Base: tt.base})
			d.RawUsedIdx(1, tt.used)
			d.RawAvailIdx(0, tt.avail)
			q := newQueue(t, d, virtqueue.ToGuest)
			require.Equal(t, tt.want, q.State().Avail)
			require.Equal(t, tt.resumed, q.Resumed())
			require.Equal(t, tt.used, d.UsedIdx(), "the start publishes nothing")
		})
	}
}

func TestABaseThatIsExactWinsOverTheUsedIndex(t *testing.T) {
	for _, dir := range []virtqueue.Direction{virtqueue.FromGuest, virtqueue.ToGuest} {
		d := vqtest.NewDriver(vqtest.NewMemory(rigMemory, vqtest.Heap), vqtest.Options{Size: 256})
		for range 256 {
			d.Add(vqtest.Buf{GPA: vqtest.BaseGPA, Len: 1, Write: dir == virtqueue.ToGuest})
		}
		d.Publish()
		d.RawUsedIdx(0, 256) // of a past life
		cfg := d.Layout()
		cfg.Dir, cfg.StateIsExact = dir, true
		q, err := virtqueue.New(d.Memory().Table(), cfg)
		require.NoError(t, err)
		require.False(t, q.Resumed())
		require.Len(t, q.Fetch(virtqueue.MaxBatch), 256, "the driver began anew, and its buffers are used")
	}
}

func TestNewOnlyReads(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		m := vqtest.NewMemory(rigMemory, vqtest.Heap)
		d := vqtest.NewDriver(m, vqtest.Options{Size: 8, EventIdx: eventIdx})
		d.RawUsedIdx(1, 0)
		d.RawAvailEvent(77)
		before := append([]byte(nil), m.Bytes(vqtest.BaseGPA, rigMemory)...)
		newQueue(t, d, virtqueue.ToGuest)
		require.True(t, slices.Equal(before, m.Bytes(vqtest.BaseGPA, rigMemory)))
	}
}

func TestFlagsOfAnEarlierBackEndAreCleared(t *testing.T) {
	t.Run("when kicks are wanted", func(t *testing.T) {
		d := vqtest.NewDriver(vqtest.NewMemory(rigMemory, vqtest.Heap), vqtest.Options{Size: 8})
		d.RawUsedIdx(1, 0)
		q := newQueue(t, d, virtqueue.ToGuest)
		q.EnableKicks()
		require.Zero(t, d.UsedFlags())
	})
	t.Run("with the first entry, if kicks are asked for by index", func(t *testing.T) {
		r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: true})
		r.d.RawUsedIdx(1, 0)
		r.turn(1)
		r.q.Flush()
		require.Zero(t, r.d.UsedFlags())
	})
}

func TestSameHeadTwiceIsTwoChains(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	head := r.add(r.buf(10))
	r.d.AddHead(head)
	r.d.Publish()
	require.Equal(t, []uint32{10, 10}, lengths(r.q.Fetch(8)))
	r.q.UseN(2)
	r.q.Flush()
	for range 2 {
		got, _ := r.used()
		require.Equal(t, head, got)
	}
}

func TestRunawayIndexBreaksTheQueue(t *testing.T) {
	tests := []struct {
		name   string
		idx    uint16 // with 2 of 8 entries pending, of 3 available
		broken bool
	}{
		{"unchanged", 3, false},
		{"as far as the queue holds", 8, false},
		{"one too far", 9, true},
		{"far too far", 1000, true},
		{"behind what was fetched by one more than the queue holds", 65529, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
			for range 3 {
				r.add(r.buf(1))
			}
			r.d.Publish()
			require.Len(t, r.q.Fetch(2), 2)
			r.d.RawAvailIdx(0, tt.idx)
			chains := r.q.Fetch(8)
			if !tt.broken {
				require.NoError(t, r.q.Err())
				require.Len(t, chains, int(tt.idx))
				return
			}
			require.ErrorIs(t, r.q.Err(), virtqueue.ErrIndex)
			require.Empty(t, chains)
			require.False(t, r.q.HasAvail())
			require.False(t, r.q.EnableKicks(), "a broken queue must not keep its thread awake")
			r.q.UseN(2) // what was fetched can still be finished
			r.q.Flush()
			require.EqualValues(t, 2, r.d.UsedIdx())
			r.d.RawAvailIdx(0, 3)
			require.Empty(t, r.q.Fetch(8), "it stays broken")
		})
	}
}

func TestUseWithoutPendingChainIsABug(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	require.Panics(t, func() { r.q.Use(0) })
}

func TestStatsCountWhatWasUsed(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	r.add(r.buf(100))
	r.d.AddHead(99)
	r.add(r.buf(11))
	r.d.Publish()
	r.q.Fetch(8)
	r.q.Rewind()
	r.q.Fetch(8)
	require.Zero(t, r.q.Stats(), "not what was fetched")
	r.q.UseN(2)
	r.q.Flush()
	require.Equal(t, virtqueue.Stats{Chains: 2, BadChains: 1, Bytes: 100, Flushes: 1, Signals: 1}, r.q.Stats())
}

func TestMisalignedAvailableRing(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 4, OddAvail: true, Base: 65530, EventIdx: eventIdx})
		require.EqualValues(t, 2, r.d.Layout().Avail%4)
		b := r.buf(7)
		for i := range 20 {
			head := r.add(b)
			r.d.Publish()
			require.Equal(t, []uint32{7}, lengths(r.q.Fetch(4)), "round %d", i)
			r.q.Use(0)
			r.q.Flush()
			got, _ := r.used()
			require.Equal(t, head, got)
		}
	}
}

func TestLargestQueue(t *testing.T) {
	r := newRigOn(t, vqtest.NewMemory(2<<20, vqtest.Heap), virtqueue.ToGuest,
		vqtest.Options{Size: 32768, EventIdx: true, Base: 40000})
	b := r.buf(8)
	for range 32768 {
		r.add(b)
	}
	r.d.Publish()
	n := 0
	for chains := r.q.Fetch(256); len(chains) > 0; chains = r.q.Fetch(256) {
		n += len(chains)
		r.q.UseN(len(chains))
	}
	r.q.Flush()
	require.Equal(t, 32768, n)
	require.NoError(t, r.q.Err())
	require.EqualValues(t, 40000+32768-65536, r.d.UsedIdx())
}

func TestQueueOfOne(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 1})
	for n := 1; n < 4; n++ {
		r.add(r.buf(n))
		r.d.Publish()
		require.Equal(t, []uint32{uint32(n)}, lengths(r.q.Fetch(8)))
		r.q.Use(0)
		r.q.Flush()
		r.used()
	}
}

func TestConfigIsChecked(t *testing.T) {
	d := vqtest.NewDriver(vqtest.NewMemory(rigMemory, vqtest.Heap), vqtest.Options{Size: 8})
	tests := []struct {
		name string
		edit func(*virtqueue.Config)
		want error
	}{
		{"size 0", func(c *virtqueue.Config) { c.Size = 0 }, virtqueue.ErrConfig},
		{"size is no power of two", func(c *virtqueue.Config) { c.Size = 6 }, virtqueue.ErrConfig},
		{"size above 32768", func(c *virtqueue.Config) { c.Size = 65535 }, virtqueue.ErrConfig},
		{"unknown direction", func(c *virtqueue.Config) { c.Dir = 7 }, virtqueue.ErrConfig},
		{"descriptors not aligned", func(c *virtqueue.Config) { c.Desc += 8 }, virtqueue.ErrConfig},
		{"available ring not aligned", func(c *virtqueue.Config) { c.Avail++ }, virtqueue.ErrConfig},
		{"used ring not aligned", func(c *virtqueue.Config) { c.Used += 2 }, virtqueue.ErrConfig},
		{"used is available", func(c *virtqueue.Config) { c.Used = c.Avail }, virtqueue.ErrConfig},
		{"used overlaps descriptors", func(c *virtqueue.Config) { c.Used = c.Desc + 124 }, virtqueue.ErrConfig},
		{"descriptors behind memory", func(c *virtqueue.Config) { c.Desc = vqtest.BaseUVA + rigMemory }, virtqueue.ErrUnmapped},
		{"available ring before memory", func(c *virtqueue.Config) { c.Avail = vqtest.BaseUVA - 64 }, virtqueue.ErrUnmapped},
		{"used ring across the end", func(c *virtqueue.Config) { c.Used = vqtest.BaseUVA + rigMemory - 64 }, virtqueue.ErrUnmapped},
		{"address wraps around", func(c *virtqueue.Config) { c.Desc = ^guestUVA(0) &^ 15 }, virtqueue.ErrUnmapped},
		{"guest-physical instead of virtual", func(c *virtqueue.Config) { c.Desc = guestUVA(vqtest.BaseGPA) }, virtqueue.ErrUnmapped},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := d.Layout()
			tt.edit(&cfg)
			_, err := virtqueue.New(d.Memory().Table(), cfg)
			require.ErrorIs(t, err, tt.want)
			require.ErrorIs(t, cfg.Check(d.Memory().Table()), tt.want)
		})
	}
	t.Run("no memory", func(t *testing.T) {
		_, err := virtqueue.New(nil, d.Layout())
		require.ErrorIs(t, err, virtqueue.ErrUnmapped)
		cfg := d.Layout()
		require.ErrorIs(t, cfg.Check(nil), virtqueue.ErrUnmapped)
	})
	good := d.Layout()
	require.NoError(t, good.Check(d.Memory().Table()))
}
