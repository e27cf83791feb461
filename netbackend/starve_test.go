package netbackend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// crumbs makes a chain of n buffers of one byte available, which lie apart.
func (r *ring) crumbs(n int) {
	bufs := make([]vqtest.Buf, n)
	for i := range bufs {
		bufs[i] = vqtest.Buf{GPA: vqtest.BaseGPA + 1<<20 + guestmem.GPA(2*i), Len: 1, Write: true}
	}
	head, ok := r.driver.Add(bufs...)
	require.True(r.t, ok)
	r.at[head] = nil
	r.driver.Publish()
}

// A ring in which no frame has room must become an empty one, or its thread would look at it for ever.
func TestBuffersThatCanHoldNoFrameGoBack(t *testing.T) {
	const header = vnet.HeaderLen
	for name, post := range map[string]func(r *ring){
		"more pieces than a frame can have": func(r *ring) { r.crumbs(256) },
		"one chain of many pieces":          func(r *ring) { r.crumbs(1000) },
		"shorter than a header":             func(r *ring) { r.post(header - 1) },
		"a header long":                     func(r *ring) { r.post(header) },
		"malformed":                         (*ring).bad,
		"malformed among crumbs":            func(r *ring) { r.crumbs(250); r.bad() },
		"crumbs before a tiny one":          func(r *ring) { r.crumbs(300); r.post(2) },
	} {
		for kind, mergeable := range map[string]bool{"mergeable": true, "single": false} {
			t.Run(name+", "+kind, func(t *testing.T) {
				r := newRing(t, 8192, header, mergeable)
				for range 8 {
					post(r)
				}
				for range 20 { // as turns do
					r.writer.Recheck()
					for _, shape := range []netbackend.Shape{netbackend.AnyShape, netbackend.OneBuffer, netbackend.OnePiece} {
						_ = r.writer.Reserve(netbackend.Request{Min: 1400, Max: 1400, Frames: 4, Shape: shape})
					}
					require.Empty(t, r.one(1400, 1400))
				}
				require.False(t, r.queue.HasAvail(), "nothing is left to look at")
				before := r.queue.Work()
				require.Empty(t, r.one(1400, 1400))
				require.LessOrEqual(t, r.queue.Work()-before, uint64(8))

				r.post(2048)
				require.True(t, r.writer.Write(&vnet.Header{}, pattern(1400)), "a good one is used all the same")
			})
		}
	}
}

func TestAGoodBufferBehindUselessOnesIsFound(t *testing.T) {
	r := newRing(t, 8192, vnet.HeaderLen, true)
	r.post(100)
	for range 8 {
		r.crumbs(500)
	}
	r.post(2048)
	require.True(t, r.writer.Write(&vnet.Header{}, pattern(1400)))
	r.queue.Flush()
	require.EqualValues(t, 10, r.driver.UsedIdx(), "all of them are used or given back")
}

func TestBuffersThatGoBackAreCountedByTheReason(t *testing.T) {
	for kind, mergeable := range map[string]bool{"mergeable": true, "single": false} {
		t.Run(kind, func(t *testing.T) {
			r := newRing(t, 64, vnet.HeaderLen, mergeable)
			raw := func(flags uint16, addr guestmem.GPA, n uint32) {
				ids := r.driver.Take(1)
				r.driver.RawDesc(ids[0], vqtest.Desc{Addr: uint64(addr), Len: n, Flags: flags, Next: ids[0]})
				r.driver.AddHead(ids[0])
			}
			const good = vqtest.BaseGPA + 1<<20
			for range 2 {
				raw(vqtest.Write, 1<<60, 100)
			}
			for range 3 {
				raw(vqtest.Write|vqtest.Next, good, 100) // follows itself
			}
			for range 4 {
				raw(0, good, 2048)
			}
			for range 5 {
				raw(vqtest.Write, good, 0)
			}
			for range 6 {
				raw(vqtest.Write, good, vnet.HeaderLen)
			}
			r.driver.Publish()
			require.Empty(t, r.one(1400, 1400))
			require.Equal(t, netbackend.ReturnedBuffers{
				ReceiveBuffersOutsideMemory: 2, ReceiveBuffersBadChain: 3, ReceiveBuffersWrongDirection: 4,
				ReceiveBuffersEmpty: 5, ReceiveBuffersTooSmall: 6,
			}, r.writer.Returned)
			r.queue.Flush()
			require.EqualValues(t, 20, r.driver.UsedIdx())
		})
	}
}
