package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// empties writes an indirect table of n descriptors of which the last has a byte, and the others none.
func (r *rig) empties(n int) vqtest.Desc {
	return r.table(r.m.Alloc(16*n, 16), n)
}

func (r *rig) table(at guestGPA, n int) vqtest.Desc {
	descs := make([]vqtest.Desc, n)
	for i := range descs {
		descs[i] = vqtest.Desc{Addr: uint64(vqtest.BaseGPA), Flags: vqtest.Next, Next: uint16(i + 1)}
	}
	descs[n-1] = vqtest.Desc{Addr: uint64(vqtest.BaseGPA), Len: 1}
	r.d.WriteTable(at, descs...)
	return vqtest.Desc{Addr: uint64(at), Len: uint32(16 * n), Flags: vqtest.Indirect}
}

func (r *rig) addRaw(d vqtest.Desc) {
	ids := r.d.Take(1)
	r.d.RawDesc(ids[0], d)
	r.d.AddHead(ids[0])
}

func TestAChainHasNoMoreDescriptorsThanPieces(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 4096, Indirect: true})
	r.addRaw(r.empties(virtqueue.MaxIovecs))
	r.addRaw(r.empties(virtqueue.MaxIovecs + 1))
	r.addRaw(r.empties(4096))
	r.d.Publish()
	chains := r.q.Fetch(1)
	require.Equal(t, []uint32{1}, lengths(chains), "the longest chain that there is")
	r.q.Use(0)
	for range 2 {
		chains := r.q.Fetch(1)
		require.Empty(t, chains[0].Iov)
		require.Equal(t, virtqueue.FaultLinks, chains[0].Fault)
		r.q.Use(0)
	}
}

// What is looked at for a Fetch is bounded, whatever chains are made of, and each Fetch goes on by one chain at least.
func TestAFetchLooksAtABoundedNumberOfDescriptors(t *testing.T) {
	const entries, longest = 256, virtqueue.MaxIovecs
	for name, split := range map[string]bool{"one table": false, "a table across regions": true} {
		t.Run(name, func(t *testing.T) {
			// On the heap, regions have a gap between them; mappings of a file may happen to be adjacent, and one piece then.
			m := vqtest.NewSplitMemory(vqtest.Heap, 1<<20, 1<<20)
			r := newRigOn(t, m, virtqueue.FromGuest, vqtest.Options{Size: 4096, Indirect: true})
			at := vqtest.BaseGPA + 1<<20
			if split {
				at -= 8
			}
			shared := r.table(at, longest)
			for range entries {
				r.addRaw(shared)
			}
			r.d.Publish()
			for done := 0; done < entries; {
				before := r.q.Work()
				chains := r.q.Fetch(virtqueue.MaxBatch)
				require.NotEmpty(t, chains)
				require.LessOrEqual(t, r.q.Work()-before, uint64(16*virtqueue.MaxBatch+8*longest+virtqueue.MaxBatch))
				require.LessOrEqual(t, len(chains), map[bool]int{false: 4, true: 1}[split])
				done += len(chains)
				r.q.UseN(len(chains))
			}
		})
	}
}

func TestOrdinaryChainsFillABatch(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 4096, Indirect: true})
	bufs := make([]vqtest.Buf, 15) // and the descriptor of the table
	for i := range bufs {
		bufs[i] = vqtest.Buf{GPA: vqtest.BaseGPA + guestGPA(100*i), Len: 50}
	}
	for range virtqueue.MaxBatch {
		_, ok := r.d.AddIndirect(bufs...)
		require.True(t, ok)
	}
	r.d.Publish()
	require.Greater(t, len(r.q.Fetch(virtqueue.MaxBatch)), 200)
}

func TestAMalformedChainTellsWhatIsWrong(t *testing.T) {
	good := uint64(vqtest.BaseGPA)
	for name, c := range map[string]struct {
		desc vqtest.Desc
		want virtqueue.Fault
	}{
		"outside of memory":        {vqtest.Desc{Addr: 1 << 60, Len: 1}, virtqueue.FaultMemory},
		"across the end of memory": {vqtest.Desc{Addr: good + rigMemory - 1, Len: 2}, virtqueue.FaultMemory},
		"table outside of memory":  {vqtest.Desc{Addr: 1 << 60, Len: 16, Flags: vqtest.Indirect}, virtqueue.FaultMemory},
		"loop":                     {vqtest.Desc{Addr: good, Len: 1, Flags: vqtest.Next}, virtqueue.FaultLinks},
		"next that there is not":   {vqtest.Desc{Addr: good, Len: 1, Flags: vqtest.Next, Next: 8}, virtqueue.FaultLinks},
		"part of a descriptor":     {vqtest.Desc{Addr: good, Len: 17, Flags: vqtest.Indirect}, virtqueue.FaultLinks},
		"other direction":          {vqtest.Desc{Addr: good, Len: 1, Flags: vqtest.Write}, virtqueue.FaultDirection},
		"no byte":                  {vqtest.Desc{Addr: good}, virtqueue.FaultEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8, Indirect: true})
			r.d.Take(7) // so that the chain begins at the last one
			for i := range uint16(8) {
				r.d.RawDesc(i, c.desc)
			}
			r.d.AddHead(0)
			r.d.Publish()
			chains := r.q.Fetch(1)
			require.Empty(t, chains[0].Iov)
			require.Equal(t, c.want, chains[0].Fault)
		})
	}
}
