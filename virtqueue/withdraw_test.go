package virtqueue_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// eachRing runs a test on rings of both directions, with all that matters to indexes.
func eachRing(t *testing.T, size uint16, test func(*testing.T, *rig)) {
	for _, dir := range []virtqueue.Direction{virtqueue.FromGuest, virtqueue.ToGuest} {
		for _, base := range []uint16{0, 0x1400, 65534} {
			for _, eventIdx := range []bool{false, true} {
				t.Run(fmt.Sprintf("direction %d, base %d, event index %v", dir, base, eventIdx), func(t *testing.T) {
					test(t, newRig(t, dir, vqtest.Options{Size: size, Base: base, EventIdx: eventIdx, Indirect: true}))
				})
			}
		}
	}
}

// offer makes n chains available, of 1 byte and more, each second one by an indirect table.
func (r *rig) offer(n int) {
	for i := range n {
		b := r.buf(i + 1)
		if i%2 == 0 {
			r.add(b)
			continue
		}
		_, ok := r.d.AddIndirect(b)
		require.True(r.t, ok)
	}
	r.d.Publish()
}

func TestChainsThatTheDriverTakesBackAreForgotten(t *testing.T) {
	eachRing(t, 8, func(t *testing.T, r *rig) {
		r.offer(6)
		require.Len(t, r.q.Fetch(5), 5)
		r.q.Use(0)
		r.d.TakeBack(3)
		require.False(t, r.q.HasAvail(), "two are pending, and no more are available")
		require.Zero(t, r.q.Withdrawals(), "to look for new ones forgets nothing")
		require.Equal(t, []uint32{2, 3}, lengths(r.q.Fetch(8)))
		require.EqualValues(t, 1, r.q.Withdrawals())
		require.False(t, r.q.HasAvail())
		require.False(t, r.q.EnableKicks())
		r.q.UseN(2)
		r.q.Flush()
		require.NoError(t, r.q.Err())
		require.EqualValues(t, r.q.Config().State.Avail+3, r.d.UsedIdx())

		r.offer(1)
		require.True(t, r.q.HasAvail())
		require.Equal(t, []uint32{1}, lengths(r.q.Fetch(8)), "what is made available next is new")
	})
}

func TestADriverThatTakesAllBackLeavesNothingToDo(t *testing.T) {
	eachRing(t, 256, func(t *testing.T, r *rig) {
		r.offer(100)
		r.q.UseN(len(r.q.Fetch(40)))
		r.q.Flush()
		require.Len(t, r.q.Fetch(40), 40)
		r.d.TakeBack(100) // it has not looked at those that were used
		for range 3 {
			require.False(t, r.q.HasAvail())
			require.False(t, r.q.EnableKicks(), "nothing keeps the thread awake")
			require.Empty(t, r.q.Fetch(virtqueue.MaxBatch))
			require.Empty(t, r.q.Pending())
		}
		require.NoError(t, r.q.Err())
		require.EqualValues(t, 1, r.q.Withdrawals())
		require.EqualValues(t, r.q.Config().State.Avail+40, r.q.State().Avail)

		r.offer(40)
		require.False(t, r.q.HasAvail(), "it is where it was used before")
		require.Empty(t, r.q.Fetch(8))
		r.offer(2)
		require.Equal(t, []uint32{1, 2}, lengths(r.q.Fetch(8)))
		require.NoError(t, r.q.Err())
	})
}

func TestChainsAreRecheckedBeforeTheyAreUsed(t *testing.T) {
	eachRing(t, 8, func(t *testing.T, r *rig) {
		r.q.Recheck()
		r.offer(4)
		require.Len(t, r.q.Fetch(4), 4)
		r.q.Recheck()
		require.Len(t, r.q.Pending(), 4)
		r.d.TakeBack(1)
		r.q.Recheck()
		require.Empty(t, r.q.Pending(), "each of them may be another's by now")
		require.True(t, r.q.HasAvail())
		require.Equal(t, []uint32{1, 2, 3}, lengths(r.q.Fetch(4)))
		r.q.Recheck()
		require.Len(t, r.q.Pending(), 3, "the index stands still")
	})
}

// An index that was seen, but not fetched up to, must not make entries available that were taken back since.
func TestEntriesAreTakenBackBeforeTheyAreFetched(t *testing.T) {
	eachRing(t, 8, func(t *testing.T, r *rig) {
		r.offer(8)
		r.q.UseN(len(r.q.Fetch(3)))
		r.d.TakeBack(3)
		require.Equal(t, []uint32{4, 5}, lengths(r.q.Fetch(8)))
	})
}

func TestTheLargestQueueIsTakenBack(t *testing.T) {
	for _, base := range []uint16{0, 40000} {
		r := newRigOn(t, vqtest.NewMemory(2<<20, vqtest.Heap), virtqueue.ToGuest,
			vqtest.Options{Size: 32768, EventIdx: true, Base: base})
		b := r.buf(8)
		for range 32768 {
			r.add(b)
		}
		r.d.Publish()
		require.Len(t, r.q.Fetch(8), 8)
		r.d.TakeBack(32768 - 5)
		require.Len(t, r.q.Fetch(8), 5)
		r.d.TakeBack(5)
		require.Empty(t, r.q.Fetch(8))
		require.False(t, r.q.HasAvail())
		require.NoError(t, r.q.Err())
	}
}
