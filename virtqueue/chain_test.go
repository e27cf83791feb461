package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// TestHostileChains puts each of vqtest's chains between two good ones. A malformed one comes out without buffers, and
// goes back with length 0; the queue goes on. The reference decoder must agree.
func TestHostileChains(t *testing.T) {
	for name, dir := range map[string]virtqueue.Direction{"transmit": virtqueue.FromGuest, "receive": virtqueue.ToGuest} {
		for _, backing := range []vqtest.Backing{vqtest.Heap, vqtest.Memfd} {
			for _, c := range vqtest.Cases(dir) {
				t.Run(name+"/"+backing.String()+"/"+c.Name, func(t *testing.T) {
					testCase(t, dir, backing, c)
				})
			}
		}
	}
}

func testCase(t *testing.T, dir virtqueue.Direction, backing vqtest.Backing, c vqtest.Case) {
	d := vqtest.NewCaseDriver(backing, vqtest.Options{Indirect: true})
	m := d.Memory()
	defer m.Close()
	q := newQueue(t, d, dir)

	c.Place(d)
	d.Publish()
	chains := q.Fetch(8)
	require.Len(t, chains, 1)
	got := chains[0]
	if c.Bad {
		require.Empty(t, got.Iov)
		require.Zero(t, got.Len)
	} else {
		require.Equal(t, c.Len, got.Len)
	}
	head := compareWithModel(t, d, q, dir, got)

	q.Use(0)
	q.Flush()
	used, written, ok := d.Used()
	require.True(t, ok, "the chain must be given back")
	require.Equal(t, head, used)
	require.Zero(t, written)
	require.Equal(t, c.Bad, q.Stats().BadChains == 1)

	good := vqtest.Buf{GPA: vqtest.BaseGPA, Len: 42, Write: dir == virtqueue.ToGuest}
	d.Add(good)
	d.Publish()
	require.Equal(t, []uint32{42}, lengths(q.Fetch(8)), "the queue goes on")
	require.NoError(t, q.Err())
}

// compareWithModel decodes the only entry of the available ring with the reference decoder, and returns its head.
func compareWithModel(t *testing.T, d *vqtest.Driver, q *virtqueue.Queue, dir virtqueue.Direction, got virtqueue.Chain) uint16 {
	head := d.Entry(0)
	want, ok := d.Walk(dir, head)
	require.Equal(t, ok, len(got.Iov) > 0)
	if ok {
		bufs, ok := d.Memory().Resolve(d.Memory().Table(), got.Iov)
		require.True(t, ok, "a piece is not guest memory")
		require.Equal(t, vqtest.Join(want), bufs)
	}
	return head
}

func TestIndirectNeedsItsFeature(t *testing.T) {
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	_, ok := r.d.AddIndirect(r.buf(10))
	require.True(t, ok)
	r.d.Publish()
	require.Equal(t, []uint32{0}, lengths(r.q.Fetch(8)))
}

// TestHeaderMaySplitAnywhere is about virtio 1.2 section 2.7.4: the framing of a message is the driver's choice.
func TestHeaderMaySplitAnywhere(t *testing.T) {
	const header = 12
	for _, pieces := range [][]int{{header + 60}, {header, 60}, {1, 11 + 60}, {5, 7, 60}, {4, 4, 4, 60}, {0, header, 0, 60}} {
		r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
		var bufs []vqtest.Buf
		var want []byte
		for i, n := range pieces {
			b := r.buf(n)
			for j := range r.m.Bytes(b.GPA, n) {
				r.m.Bytes(b.GPA, n)[j] = byte(16*i + j)
			}
			want = append(want, r.m.Bytes(b.GPA, n)...)
			bufs = append(bufs, b)
		}
		r.add(bufs...)
		r.d.Publish()
		require.Equal(t, want, bytes(r.q.Fetch(1)[0]), "%v", pieces)
	}
}

func TestChainOfTooManyPieces(t *testing.T) {
	for pieces, ok := range map[int]bool{virtqueue.MaxIovecs: true, virtqueue.MaxIovecs + 1: false} {
		r := newRig(t, virtqueue.ToGuest, vqtest.Options{Size: 2048})
		bufs := make([]vqtest.Buf, pieces)
		for i := range bufs {
			bufs[i] = vqtest.Buf{GPA: vqtest.BaseGPA, Len: 1, Write: true}
		}
		r.add(bufs...)
		r.d.Publish()
		require.Equal(t, ok, len(r.q.Fetch(1)[0].Iov) == pieces)
	}
}

func TestChainOfMoreThan4GiB(t *testing.T) {
	const each = 8 << 20
	for count, ok := range map[int]bool{511: true, 512: false} { // 512 of them are 4 GiB
		r := newRigOn(t, vqtest.NewMemory(each, vqtest.Memfd), virtqueue.FromGuest, vqtest.Options{Size: 512})
		bufs := make([]vqtest.Buf, count)
		for i := range bufs {
			bufs[i] = vqtest.Buf{GPA: vqtest.BaseGPA, Len: each}
		}
		r.add(bufs...)
		r.d.Publish()
		c := r.q.Fetch(1)[0]
		require.Equal(t, ok, len(c.Iov) > 0)
		if ok {
			require.EqualValues(t, count*each, c.Len)
		}
	}
}

func TestDescriptorIsReadOnce(t *testing.T) {
	// What the guest writes after Fetch must not reach the chain that was checked.
	r := newRig(t, virtqueue.FromGuest, vqtest.Options{Size: 8})
	head := r.add(r.buf(10))
	r.d.Publish()
	c := r.q.Fetch(1)[0]
	before := c.Iov[0]
	r.d.RawDesc(head, vqtest.Desc{Addr: 0, Len: 1 << 30})
	require.Equal(t, before, r.q.Fetch(1)[0].Iov[0])
	r.q.Rewind()
	require.Empty(t, r.q.Fetch(1)[0].Iov, "a rewound chain is read, and checked, anew")
}

func TestDescriptorBehindTheTableIsNotLookedAt(t *testing.T) {
	// The queue has the first 8 of the driver's 16 descriptors; the others are good ones behind the end of its table.
	d := vqtest.NewDriver(vqtest.NewMemory(rigMemory, vqtest.Heap), vqtest.Options{Size: 16})
	good := vqtest.Desc{Addr: uint64(vqtest.BaseGPA), Len: 10}
	d.RawDesc(7, good)
	d.RawDesc(8, good)
	d.RawDesc(6, vqtest.Desc{Addr: uint64(vqtest.BaseGPA), Len: 10, Flags: vqtest.Next, Next: 8})
	for _, head := range []uint16{7, 8, 6} {
		d.AddHead(head)
	}
	d.Publish()
	cfg := d.Layout()
	cfg.Size = 8
	q, err := virtqueue.New(d.Memory().Table(), cfg)
	require.NoError(t, err)
	require.Equal(t, []uint32{10, 0, 0}, lengths(q.Fetch(8)))
}
