package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// TestNoAllocations covers a turn of a device on every path of Fetch: direct and indirect chains, tables and buffers
// across regions, malformed chains.
func TestNoAllocations(t *testing.T) {
	m := vqtest.NewSplitMemory(vqtest.Heap, 1<<18, 1<<18)
	r := newRigOn(t, m, virtqueue.FromGuest, vqtest.Options{Size: 64, Indirect: true, EventIdx: true})
	border := vqtest.BaseGPA + 1<<18
	across := vqtest.Buf{GPA: border - 100, Len: 200}
	split := vqtest.Desc{Addr: uint64(border - 8), Len: 32, Flags: vqtest.Indirect}
	r.d.WriteTable(border-8, vqtest.Desc{Addr: uint64(vqtest.BaseGPA), Len: 10, Flags: vqtest.Next, Next: 1},
		vqtest.Desc{Addr: uint64(vqtest.BaseGPA), Len: 10})

	ids := r.d.Take(1)
	r.d.RawDesc(ids[0], split)
	heads := []uint16{ids[0], r.add(r.buf(12), r.buf(1500)), r.add(across), 999}
	head, _ := r.d.AddIndirect(r.buf(12), across)
	heads = append(heads, head)
	r.d.Publish()
	r.q.UseN(len(r.q.Fetch(64)))
	r.q.Flush()

	var scratch [64]byte
	turn := func() {
		r.q.DisableKicks()
		chains := r.q.Fetch(64)
		for _, c := range chains {
			guestmem.CopyFrom(scratch[:], c.Iov, 0)
		}
		r.q.Rewind()
		r.q.UseN(len(r.q.Fetch(64)))
		r.q.Flush()
		r.q.EnableKicks()
	}
	guarded := func() { _ = guestmem.Guard(turn) }
	n := testing.AllocsPerRun(100, func() {
		for _, h := range heads {
			r.d.AddHead(h)
		}
		r.d.Publish()
		guarded()
	})
	require.Zero(t, n)
	require.EqualValues(t, 101, r.q.Stats().BadChains, "one malformed chain a run, and one to warm up")
	require.EqualValues(t, 5*101+3, r.q.Stats().Chains)
}
