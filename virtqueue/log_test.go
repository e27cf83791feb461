package virtqueue_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// logRig is a rig whose device marks what it writes, with a used ring of three pages that nothing else is on.
type logRig struct {
	*rig
	log   *guestmem.Log
	watch *vqtest.PageWatch
	bufs  [][2]vqtest.Buf
}

const logBatch = 30

func newLogRig(t *testing.T, dir virtqueue.Direction, eventIdx bool) *logRig {
	m := vqtest.NewSplitMemory(vqtest.Heap, 1<<19, 1<<19)
	m.Alloc(2032, 1) // so that the used ring's index is on one page, and its first elements are on the next
	r := &logRig{rig: newRigOn(t, m, dir, vqtest.Options{Size: 1024, EventIdx: eventIdx, Indirect: true, Base: 65000})}
	r.log = guestmem.NewHeapLog(m.LogPages())
	r.q.SetLogging(r.all())
	for range logBatch {
		r.bufs = append(r.bufs, [2]vqtest.Buf{r.buf(10), r.buf(5000)})
	}
	r.watch = vqtest.WatchPages(m)
	return r
}

// all has all marked that the queue writes.
func (r *logRig) all() virtqueue.Logging {
	return virtqueue.Logging{Log: r.log, Buffers: true, Ring: true, UsedAt: r.m.GPA(r.q.Config().Used)}
}

// fetch makes chains available and fetches them. What the driver writes for that is the driver's to log.
func (r *logRig) fetch() []virtqueue.Chain {
	for _, b := range r.bufs {
		r.add(b[0], b[1])
	}
	r.d.Publish()
	r.watch.Forget()
	return r.q.Fetch(logBatch)
}

// fill writes n bytes to a chain, as a Port or the kernel would.
func fill(c *virtqueue.Chain, n int, with byte) {
	b := make([]byte, n)
	for i := range b {
		b[i] = with
	}
	guestmem.CopyTo(c.Iov, 0, b)
}

func TestAllThatAQueueWritesIsMarked(t *testing.T) {
	ways := map[string]func(q *virtqueue.Queue, chains []virtqueue.Chain, round byte){
		"Use": func(q *virtqueue.Queue, chains []virtqueue.Chain, round byte) {
			for range chains {
				fill(&q.Pending()[0], 4500, round)
				q.Use(4500)
			}
		},
		"UseRun": func(q *virtqueue.Queue, chains []virtqueue.Chain, round byte) {
			written := make([]uint32, len(chains))
			for i := range chains {
				written[i] = uint32(100 * (i + int(round)) % 5000)
				fill(&chains[i], int(written[i]), round)
			}
			q.UseRun(written)
		},
		"UseN": func(q *virtqueue.Queue, chains []virtqueue.Chain, _ byte) { q.UseN(len(chains)) },
	}
	for name, use := range ways {
		for _, eventIdx := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s with event index %v", name, eventIdx), func(t *testing.T) {
				r := newLogRig(t, virtqueue.ToGuest, eventIdx)
				for round := range byte(80) { // more than once around the ring, and around all indexes
					r.log = guestmem.NewHeapLog(r.m.LogPages()) // as if the front end had taken all bits
					r.q.SetLogging(r.all())
					chains := r.fetch()
					r.q.DisableKicks()
					use(r.q, chains, round+1)
					r.q.Flush()
					r.q.EnableKicks()
					r.q.AwaitMore()
					require.NotEmpty(t, r.watch.Changed())
					require.Empty(t, r.watch.Unmarked(r.log), "round %d", round)
					for range logBatch {
						r.used()
					}
				}
			})
		}
	}
}

func TestEachStoreToTheUsedRingIsMarkedAlone(t *testing.T) {
	stores := map[string]func(q *virtqueue.Queue){
		"flags":           func(q *virtqueue.Queue) { q.DisableKicks() },
		"event index":     func(q *virtqueue.Queue) { q.EnableKicks() },
		"another of them": func(q *virtqueue.Queue) { q.AwaitMore() },
		"elements":        func(q *virtqueue.Queue) { q.UseN(logBatch); q.Publish() },
	}
	for name, store := range stores {
		for _, eventIdx := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s with event index %v", name, eventIdx), func(t *testing.T) {
				r := newLogRig(t, virtqueue.FromGuest, eventIdx)
				r.fetch()
				store(r.q)
				require.Empty(t, r.watch.Unmarked(r.log))
			})
		}
	}
}

func TestNothingIsMarkedThatWasNotAskedFor(t *testing.T) {
	r := newLogRig(t, virtqueue.ToGuest, true)
	marked := func() (n int) {
		for page := range r.m.LogPages() {
			if r.log.Marked(page) {
				n++
			}
		}
		return n
	}
	use := func(l virtqueue.Logging) int {
		before := marked()
		r.q.SetLogging(l)
		chains := r.fetch()
		fill(&chains[0], 10, 1)
		r.q.UseRun([]uint32{10, 0})
		r.q.Flush()
		return marked() - before
	}
	require.Zero(t, use(virtqueue.Logging{}))
	require.Zero(t, use(virtqueue.Logging{Log: r.log}))
	require.Equal(t, 1, use(virtqueue.Logging{Log: r.log, Buffers: true}), "the page of the chain that was written to")
	require.NotZero(t, use(virtqueue.Logging{Log: r.log, Ring: true, UsedAt: r.all().UsedAt}))
}

func TestAQueueGoesOnLoggingInAnotherMemory(t *testing.T) {
	r := newLogRig(t, virtqueue.ToGuest, true)
	r.fetch()
	other := r.m.NewTable(r.m.Table())
	require.NoError(t, r.q.SetMemory(other))
	chains := r.q.Fetch(1)
	fill(&chains[0], 5000, 7)
	r.q.Use(5000)
	r.q.Flush()
	require.Empty(t, r.watch.Unmarked(r.log))
	require.NoError(t, other.Release())
}

// The front end names the place of the used ring, and may lie: what is outside of its log is nowhere.
func TestAUsedRingOutsideOfTheLogIsNotMarked(t *testing.T) {
	for _, at := range []guestmem.GPA{1 << 40, 1<<64 - 4, 1<<64 - 8192} {
		r := newLogRig(t, virtqueue.ToGuest, true)
		r.q.SetLogging(virtqueue.Logging{Log: guestmem.NewHeapLog(1), Buffers: true, Ring: true, UsedAt: at})
		chains := r.fetch()
		fill(&chains[0], 5000, 7)
		r.q.Use(5000)
		r.q.Flush()
		r.q.EnableKicks()
	}
}

func TestLoggingDoesNotAllocate(t *testing.T) {
	r := newLogRig(t, virtqueue.ToGuest, true)
	chains := r.fetch()
	require.Len(t, chains, logBatch)
	require.Zero(t, testing.AllocsPerRun(logBatch-2, func() {
		r.q.Use(5000)
		r.q.Flush()
	}))
}
