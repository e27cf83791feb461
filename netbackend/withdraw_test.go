package netbackend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// reservations are all ways to get memory of the guest for a frame of n bytes.
var reservations = map[string]func(n int) netbackend.Request{
	"one frame":           func(n int) netbackend.Request { return netbackend.Request{Min: n, Max: n} },
	"as much as there is": func(n int) netbackend.Request { return netbackend.Request{Min: 1, Max: n} },
	"run": func(n int) netbackend.Request {
		return netbackend.Request{Min: n, Max: n, Frames: 8, Shape: netbackend.OnePiece}
	},
	"each": func(n int) netbackend.Request {
		return netbackend.Request{Min: n, Max: n, Frames: 8, Shape: netbackend.OneBuffer}
	},
	"frames": func(n int) netbackend.Request { return netbackend.Request{Min: n, Max: n, Frames: 8} },
}

// eachReservation runs a test for each of them, with buffers that can be merged and with those that cannot.
func eachReservation(t *testing.T, test func(t *testing.T, r *ring, reserve func(n int) int)) {
	for name, request := range reservations {
		for kind, mergeable := range map[string]bool{"mergeable": true, "single": false} {
			t.Run(name+", "+kind, func(t *testing.T) {
				r := newRing(t, 64, vnet.HeaderLen, mergeable)
				test(t, r, func(n int) int { return r.writer.Reserve(request(n)).Len() })
			})
		}
	}
}

func TestBuffersThatTheDriverTakesBackAreNoRoom(t *testing.T) {
	eachReservation(t, func(t *testing.T, r *ring, reserve func(int) int) {
		for range 6 {
			r.post(400)
		}
		require.Positive(t, reserve(100))
		r.driver.TakeBack(6)
		r.writer.Recheck()
		require.Zero(t, reserve(100))
		require.False(t, r.writer.Available())
		require.Zero(t, r.writer.Buffered(100))
		require.Zero(t, r.writer.Capacity())
		r.writer.Recheck()
		require.Zero(t, reserve(100), "nor in the next turn")
		require.NoError(t, r.queue.Err())

		r.post(400)
		require.Equal(t, 1, reserve(100), "new buffers are")
	})
}

// A driver that takes buffers back frees them in any order: those that seem to be there still may be gone too.
func TestNoBufferIsWrittenToInATurnInWhichSomeAreTakenBack(t *testing.T) {
	eachReservation(t, func(t *testing.T, r *ring, reserve func(int) int) {
		for range 6 {
			r.post(400)
		}
		require.Positive(t, reserve(100))
		r.driver.TakeBack(4)
		r.writer.Recheck()
		require.Zero(t, reserve(100))
		require.Zero(t, r.writer.Buffered(100))
		r.writer.Recheck() // the next turn, and the index stands still
		require.Positive(t, reserve(100))
		for range 2 {
			require.True(t, r.writer.Write(&vnet.Header{}, pattern(100)))
		}
		require.False(t, r.writer.Write(&vnet.Header{}, pattern(100)), "no more than two are left")
	})
}

// What was reserved of a frame is void when the rest of its buffers is found to be taken back.
func TestBuffersAreTakenBackWhileAFrameIsReserved(t *testing.T) {
	for _, name := range []string{"one frame", "as much as there is", "frames"} { // the others need one buffer a frame
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 64, vnet.HeaderLen, true)
			for range 40 {
				r.post(400)
			}
			require.Positive(t, r.writer.Buffered(1)) // fetches some
			pending := len(r.queue.Pending())
			require.Less(t, pending, 40)
			r.driver.TakeBack(1)
			require.Zero(t, r.writer.Reserve(reservations[name](39*400)).Len())
			require.Zero(t, r.writer.Buffered(1))
			require.False(t, r.writer.Write(&vnet.Header{}, pattern(60)), "not before the next turn")
			require.False(t, r.writer.Available())
			require.True(t, r.writer.Starved() && r.queue.HasAvail(), "but then it is looked at, and at once")
			r.writer.Recheck()
			require.True(t, r.writer.Write(&vnet.Header{}, pattern(60)))
		})
	}
}
