package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// runsRing is the size of the ring of FuzzRuns: several runs of entries that are read at a time.
const runsRing = 128

// FuzzRuns compares what comes out of long runs of entries with the reference decoder, which knows of no runs. Most
// descriptors are good, so that the short way for those is taken, and left, anywhere in a run. The input is a byte of
// options, a byte of base, and three bytes for each entry.
func FuzzRuns(f *testing.F) {
	good := make([]byte, 3*runsRing)
	for kind := range 16 {
		for _, at := range []int{0, 1, 31, 32, 100} {
			seed := append([]byte{byte(kind), byte(at)}, good...)
			seed[2+3*at], seed[2+3*at+1], seed[2+3*at+2] = byte(kind), byte(at), 7
			f.Add(seed)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 {
			return
		}
		z := newRunsFuzzer(t, data[0], data[1])
		heads := z.place(data[2:])
		z.d.Publish()
		z.drain(heads, int(data[1]))
	})
}

func newRunsFuzzer(t *testing.T, options, base byte) *fuzzer {
	m := vqtest.NewSplitMemory(vqtest.Heap, 2*fuzzMemory, 2*fuzzMemory)
	d := vqtest.NewDriver(m, vqtest.Options{
		Size: runsRing, Indirect: options&1 != 0, OddAvail: options&2 != 0, Base: uint16(int8(base)),
	})
	z := &fuzzer{t: t, m: m, d: d, table: m.Table(), cfg: d.Layout()}
	z.cfg.Dir = virtqueue.Direction(options >> 2 & 1)
	z.start()
	return z
}

// place adds an entry for each three bytes, and returns their heads.
func (z *fuzzer) place(data []byte) (heads []uint16) {
	for i := uint16(0); i < runsRing && len(data) >= 3; i++ {
		head, desc := z.entry(i, data[0]%16, data[1], data[2])
		data = data[3:]
		z.d.RawDesc(i, desc)
		z.d.AddHead(head)
		heads = append(heads, head)
	}
	return heads
}

// entry returns a good buffer in descriptor i, or something else.
func (z *fuzzer) entry(i uint16, kind, a, b byte) (head uint16, desc vqtest.Desc) {
	const border = vqtest.BaseGPA + 2*fuzzMemory
	desc = vqtest.Desc{Addr: uint64(vqtest.BaseGPA) + 16*uint64(a), Len: 1 + uint32(b)}
	if z.cfg.Dir == virtqueue.ToGuest {
		desc.Flags = vqtest.Write
	}
	switch kind {
	case 1:
		return runsRing + uint16(a), desc
	case 2:
		return uint16(a), desc // perhaps another's, perhaps none
	case 3:
		desc.Len = 0
	case 4:
		desc.Addr = uint64(a) << 56
	case 5:
		desc.Flags = uint16(b & 7)
	case 6:
		desc.Addr = uint64(border) - uint64(a)
	case 7:
		desc.Addr = uint64(border) + uint64(a) // the other region is the one of the entries that follow
	case 8:
		desc.Len = 1<<32 - 1 - uint32(b)
	case 9:
		desc.Addr = 1<<64 - 1 - uint64(a)
	case 10:
		desc.Flags, desc.Next = desc.Flags|vqtest.Next, uint16(b)
	case 11:
		desc.Flags, desc.Len = vqtest.Indirect, 16*uint32(b)
	}
	return i, desc
}

// drain fetches all entries, some at a time, and uses them in one of the ways that there are.
func (z *fuzzer) drain(heads []uint16, seed int) {
	for at, step := 0, seed; at < len(heads); step++ {
		chains := z.q.Fetch(1 + (seed+7*step)%70)
		require.NoError(z.t, z.q.Err())
		require.NotEmpty(z.t, chains)
		for i, c := range chains {
			z.compare(c, heads[at+i])
		}
		n := len(chains)
		written := z.use(n, step)
		z.q.Flush()
		for i := range n {
			id, got, ok := z.d.Used()
			require.True(z.t, ok)
			require.Equal(z.t, heads[at+i], id)
			require.Equal(z.t, written[i], got)
		}
		at += n
	}
}

// use gives n chains back, and returns what it said was written to each.
func (z *fuzzer) use(n, way int) []uint32 {
	written := make([]uint32, n)
	if way%3 == 0 {
		z.q.UseN(n)
		return written
	}
	for i := range written {
		written[i] = uint32(way + i)
	}
	if way%3 == 1 {
		z.q.UseRun(written)
		return written
	}
	for _, w := range written {
		z.q.Use(w)
	}
	return written
}

// What the reference model does not say: counters do not depend on the way in which chains are given back.
func TestAllWaysOfUsingCountAlike(t *testing.T) {
	count := func(use func(*virtqueue.Queue)) virtqueue.Stats {
		r := newRig(t, virtqueue.ToGuest, vqtest.Options{Size: 8})
		r.add(r.buf(100))
		r.d.AddHead(99)
		r.add(r.buf(50), r.buf(50))
		r.d.Publish()
		require.Len(t, r.q.Fetch(8), 3)
		use(r.q)
		require.Empty(t, r.q.Pending())
		return r.q.Stats()
	}
	want := count(func(q *virtqueue.Queue) { q.Use(10); q.Use(0); q.Use(30) })
	require.Equal(t, virtqueue.Stats{Chains: 3, BadChains: 1, Bytes: 40}, want)
	require.Equal(t, want, count(func(q *virtqueue.Queue) { q.UseRun([]uint32{10, 0, 30}) }))
	require.Panics(t, func() { count(func(q *virtqueue.Queue) { q.UseRun(make([]uint32, 4)) }) })
	require.Panics(t, func() { count(func(q *virtqueue.Queue) { q.UseN(4) }) })
}
