package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

type (
	guestGPA = guestmem.GPA
	guestUVA = guestmem.UVA
)

// rig is a driver and the device's queue on its ring.
type rig struct {
	t *testing.T
	m *vqtest.Memory
	d *vqtest.Driver
	q *virtqueue.Queue
}

const rigMemory = 1 << 20

func newRig(t *testing.T, dir virtqueue.Direction, opt vqtest.Options) *rig {
	return newRigOn(t, vqtest.NewMemory(rigMemory, vqtest.Heap), dir, opt)
}

func newRigOn(t *testing.T, m *vqtest.Memory, dir virtqueue.Direction, opt vqtest.Options) *rig {
	t.Helper()
	t.Cleanup(m.Close)
	d := vqtest.NewDriver(m, opt)
	return &rig{t: t, m: m, d: d, q: newQueue(t, d, dir)}
}

func newQueue(t *testing.T, d *vqtest.Driver, dir virtqueue.Direction) *virtqueue.Queue {
	t.Helper()
	cfg := d.Layout()
	cfg.Dir = dir
	q, err := virtqueue.New(d.Memory().Table(), cfg)
	require.NoError(t, err)
	return q
}

// buf allocates a buffer for the queue's direction.
func (r *rig) buf(n int) vqtest.Buf {
	return vqtest.Buf{GPA: r.m.Alloc(n, 1), Len: uint32(n), Write: r.q.Config().Dir == virtqueue.ToGuest}
}

// add makes a chain available, unpublished.
func (r *rig) add(bufs ...vqtest.Buf) uint16 {
	r.t.Helper()
	head, ok := r.d.Add(bufs...)
	require.True(r.t, ok, "no free descriptors")
	return head
}

// used takes the next used element, which must be there.
func (r *rig) used() (head uint16, written uint32) {
	r.t.Helper()
	head, written, ok := r.d.Used()
	require.True(r.t, ok, "nothing was used")
	return head, written
}

func (r *rig) nothingUsed() {
	r.t.Helper()
	_, _, ok := r.d.Used()
	require.False(r.t, ok, "something was used")
}

// bytes is what the device would read of a chain.
func bytes(c virtqueue.Chain) []byte {
	b := make([]byte, c.Len)
	return b[:guestmem.CopyFrom(b, c.Iov, 0)]
}

func lengths(chains []virtqueue.Chain) (n []uint32) {
	for _, c := range chains {
		n = append(n, c.Len)
	}
	return n
}
