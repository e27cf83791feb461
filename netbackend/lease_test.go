package netbackend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// leases are requests of each shape, for up to two frames of 100 bytes.
var leases = map[string]netbackend.Request{
	"one frame":  {Min: 100, Max: 100},
	"frames":     {Min: 100, Max: 100, Frames: 2},
	"one buffer": {Min: 100, Max: 100, Frames: 2, Shape: netbackend.OneBuffer},
	"one piece":  {Max: 100, Frames: 2, Shape: netbackend.OnePiece},
}

// commit commits one frame of a lease.
func commit(l netbackend.Lease, r netbackend.Request) {
	if r.Shape == netbackend.OnePiece {
		l.CommitRun([]netbackend.FrameMeta{{Len: 100}})
		return
	}
	l.Commit(&vnet.Header{}, 100)
}

// A lease is void from the moment that its memory may belong to something else. To commit it then is a mistake that tests find,
// and gives the guest no frame.
func TestALeaseThatHasEndedIsNotCommitted(t *testing.T) {
	ends := map[string]func(r *ring, commitAll func()){
		"with the next lease": func(r *ring, _ func()) { r.one(60, 60) },
		"with a frame of ours": func(r *ring, _ func()) {
			require.True(r.t, r.writer.Write(&vnet.Header{}, pattern(60)))
		},
		"with the turn":                    func(r *ring, _ func()) { r.writer.Recheck() },
		"with the ring":                    func(r *ring, _ func()) { r.writer.Attach(r.queue, vnet.HeaderLen, true) },
		"with its last frame":              func(_ *ring, commitAll func()) { commitAll() },
		"with buffers that are taken back": func(r *ring, _ func()) { r.driver.TakeBack(1); r.writer.Buffered(1 << 20) },
	}
	for how, end := range ends {
		for name, request := range leases {
			t.Run(how+", "+name, func(t *testing.T) {
				r := newRing(t, 16, vnet.HeaderLen, true)
				for range 6 {
					r.post(200)
				}
				lease := r.writer.Reserve(request)
				require.Equal(t, max(request.Frames, 1), lease.Len())
				end(r, func() {
					if request.Shape == netbackend.OnePiece {
						lease.CommitRun([]netbackend.FrameMeta{{Len: 100}, {Len: 100}})
						return
					}
					for range lease.Len() {
						commit(lease, request)
					}
				})
				before := r.writer.Frames
				require.Panics(t, func() { commit(lease, request) })
				r.writer.Strict = false
				commit(lease, request)
				require.Equal(t, before, r.writer.Frames)
			})
		}
	}
}

func TestALeaseWithoutRoomIsNotCommitted(t *testing.T) {
	for name, request := range leases {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 16, vnet.HeaderLen, true)
			lease := r.writer.Reserve(request)
			require.Zero(t, lease.Len())
			require.Panics(t, func() { commit(lease, request) })
			require.Equal(t, request.Frames == 0, r.writer.Starved(), "who asks for one frame waits for room")
		})
	}
}

func TestAShortFrameOfALeaseIsFilledUp(t *testing.T) {
	r := newRing(t, 16, vnet.HeaderLen, true)
	r.post(200)
	r.post(200)
	lease := r.writer.Reserve(netbackend.Request{Min: 60, Max: 100, Frames: 2, Shape: netbackend.OneBuffer})
	for i, n := range []int{80, 10} {
		require.Equal(t, 100, guestmem.CopyTo(lease.Frame(i), 0, pattern(100)))
		require.Equal(t, max(n, netbackend.MinFrame), lease.Commit(&vnet.Header{}, n))
	}
	require.Equal(t, [][]byte{pattern(80), padded(10)}, r.frames(2))
}

// padded is a frame of n bytes, filled up.
func padded(n int) []byte { return append(pattern(n), make([]byte, netbackend.MinFrame-n)...) }

func TestAShortFrameOfOursIsFilledUpOverWhatWasThere(t *testing.T) {
	r := newRing(t, 16, vnet.HeaderLen, true)
	r.post(200)
	guestmem.CopyTo(r.one(60, 100), 0, pattern(100))
	require.True(t, r.writer.Write(&vnet.Header{}, pattern(10)))
	require.Equal(t, [][]byte{padded(10)}, r.frames(1))
}
