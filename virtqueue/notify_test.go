package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// turn adds n chains, and lets the device use them up. It returns whether the driver would have kicked.
func (r *rig) turn(n int) (kick bool) {
	for range n {
		r.add(r.buf(1))
	}
	kick = r.d.Publish()
	r.q.UseN(len(r.q.Fetch(virtqueue.MaxBatch)))
	return kick
}

func (r *rig) drain() {
	for _, _, ok := r.d.Used(); ok; _, _, ok = r.d.Used() {
	}
}

func TestKicksByFlag(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	require.True(t, r.turn(1), "kicks are wanted from the start")
	r.q.DisableKicks()
	require.False(t, r.turn(1))
	require.False(t, r.q.EnableKicks(), "everything was fetched")
	require.True(t, r.turn(1))
}

func TestDisableKicksPublishesNothingElse(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	r.turn(3)
	r.q.DisableKicks()
	r.nothingUsed()
	r.q.Flush()
	require.EqualValues(t, 3, r.d.UsedIdx())
	require.EqualValues(t, 1, r.d.UsedFlags(), "Flush keeps the flag")
}

func TestEnableKicksLooksAgain(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: eventIdx})
		r.q.DisableKicks()
		require.Empty(t, r.q.Fetch(8))
		r.add(r.buf(1))
		r.d.Publish() // between the look and the request
		require.True(t, r.q.EnableKicks())
		require.Len(t, r.q.Fetch(8), 1)
		require.False(t, r.q.EnableKicks())
	}
}

func TestKicksByIndex(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: true, Base: 65534})
	require.False(t, r.q.EnableKicks())
	require.True(t, r.turn(3), "the first entry passes the index, across zero")
	require.False(t, r.turn(1), "no kick was asked for since")
	require.False(t, r.q.EnableKicks())
	require.EqualValues(t, 2, r.d.AvailEvent())
	require.True(t, r.turn(1))
	require.Zero(t, r.d.UsedFlags(), "the flag stays clear with event indexes (virtio 1.2 section 2.7.10)")
}

func TestInterruptsByFlag(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	require.False(t, r.q.Flush(), "nothing was used")
	r.turn(1)
	require.True(t, r.q.Flush())
	r.d.DisableInterrupts()
	r.turn(1)
	require.False(t, r.q.Flush())
	r.drain()
	require.False(t, r.d.EnableInterrupts())
	r.turn(1)
	require.True(t, r.q.Flush())
	require.False(t, r.q.Flush(), "once")
}

func TestInterruptsByIndex(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: true, Base: 65535})
	r.d.RawUsedEvent(65534) // passed already
	r.turn(1)
	require.True(t, r.q.Flush(), "an earlier back end may have left a driver waiting")
	r.turn(1)
	require.False(t, r.q.Flush(), "used_event was passed")
	r.drain()
	r.d.RawUsedEvent(3) // the driver wants to sleep until entry 3 is used
	r.turn(2)
	require.False(t, r.q.Flush())
	r.turn(1)
	require.True(t, r.q.Flush())
}

func TestOneInterruptForABatchThatPassesTheIndex(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: true})
	r.turn(1)
	r.q.Flush()
	r.drain()
	r.d.RawUsedEvent(2)
	r.turn(5)
	require.True(t, r.q.Flush())
	require.False(t, r.q.Flush())
	require.EqualValues(t, 2, r.q.Stats().Signals)
}

func TestGarbageInEventFieldsAndFlagsIsHarmless(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: eventIdx})
		for i := range 200 {
			r.d.RawUsedEvent(uint16(i * 7919))
			r.d.RawAvailEvent(uint16(i * 104729))
			r.add(r.buf(1))
			r.d.Publish()
			r.d.RawAvailIdx(uint16(i*31), uint16(i+1)) // flags
			chains := r.q.Fetch(8)
			require.Len(t, chains, 1)
			r.q.Use(0)
			r.q.Flush()
			r.used()
		}
		require.NoError(t, r.q.Err())
	}
}

func TestAnInterruptThatIsLeftForLaterIsNotLost(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: eventIdx, Base: 65535})
		r.d.EnableInterrupts()
		r.turn(1)
		r.q.Publish()
		require.EqualValues(t, 0, r.d.UsedIdx(), "the driver can see it")
		r.turn(2)
		r.q.Publish()
		require.True(t, r.q.Flush(), "nobody came by")
		require.False(t, r.q.Flush(), "once")
	}
}

func TestADriverThatCameByNeedsNoInterrupt(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, EventIdx: true, Base: 65535})
	r.turn(1)
	r.q.Flush() // the first one notifies in any case
	r.drain()
	r.d.EnableInterrupts()
	r.turn(2)
	r.q.Publish()
	r.drain()
	r.d.EnableInterrupts()
	require.False(t, r.q.Flush(), "it has seen everything")
	r.turn(1)
	require.True(t, r.q.Flush(), "and waits for the next")
}
