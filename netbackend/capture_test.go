package netbackend_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// captured is a tap of a ring's writer, with the hook that it is on.
func captured(t *testing.T, r *ring, headerLen int) (*capture.Tap, *capture.Hook) {
	tap, err := capture.NewTap(capture.Options{SnapLen: capture.MaxSnapLen, Memory: capture.MinMemory})
	require.NoError(t, err)
	h := capture.NewHook([]*capture.Tap{tap})
	h.Begin(1, headerLen)
	r.writer.SetCapture(h)
	return tap, h
}

// taken are the frames that a tap has, with their headers.
func taken(tap *capture.Tap) (frames [][]byte, headers []vnet.Header) {
	var f capture.Frame
	for tap.Peek(&f) {
		frames, headers = append(frames, bytes.Clone(f.Data)), append(headers, f.Header)
		tap.Drop()
	}
	return frames, headers
}

// Whatever way a frame takes into the ring, it is captured as the guest gets it, and the guest gets what it gets otherwise.
func TestWhatIsCommittedIsCaptured(t *testing.T) {
	header := vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16}
	for _, headerLen := range []int{vnet.LegacyHeaderLen, vnet.HeaderLen} {
		for name, request := range leases {
			t.Run(fmt.Sprint(name, ", header of ", headerLen), func(t *testing.T) {
				r := newRing(t, 64, headerLen, headerLen == vnet.HeaderLen)
				for range 8 {
					r.post(headerLen, 200)
					r.post(200)
				}
				if request.Shape == netbackend.OnePiece {
					r = newRing(t, 64, headerLen, headerLen == vnet.HeaderLen)
					for range 8 {
						r.post(200)
					}
				}
				tap, hook := captured(t, r, headerLen)
				lease := r.writer.Reserve(request)
				require.Positive(t, lease.Len())
				n := lease.Len()
				first, rest := header.Words()
				var run []netbackend.FrameMeta
				for i := range n {
					iov := lease.Pieces()[i : i+1]
					if request.Shape != netbackend.OnePiece {
						iov = lease.Frame(i)
					}
					guestmem.CopyTo(iov, 0, pattern(100 - i)[:100-i])
					run = append(run, netbackend.FrameMeta{First: first, Rest: rest, Len: uint32(100 - i)})
				}
				if request.Shape == netbackend.OnePiece {
					lease.CommitRun(run)
				} else {
					for i := range n {
						h := header
						lease.Commit(&h, 100-i)
					}
				}
				require.True(t, r.writer.Write(&vnet.Header{}, pattern(42)))
				hook.End()
				frames, headers := taken(tap)
				for i := range n + 1 {
					given, ok := r.used()
					require.True(t, ok)
					require.Equal(t, given[headerLen:], frames[i])
				}
				for i := range n {
					header.NumBuffers = headers[i].NumBuffers
					require.Equal(t, header, headers[i])
				}
				require.Len(t, frames[n], netbackend.MinFrame)

				r.writer.SetCapture(nil)
				require.True(t, r.writer.Write(&vnet.Header{}, pattern(60)))
				hook.End()
				frames, _ = taken(tap)
				require.Empty(t, frames, "after the end")
			})
		}
	}
}

// A ring that starts later is captured, too.
func TestACaptureStaysWithItsWriter(t *testing.T) {
	r := newRing(t, 64, vnet.HeaderLen, true)
	tap, hook := captured(t, r, vnet.HeaderLen)
	r.writer.Attach(nil, 0, false)
	r.writer.Attach(r.queue, vnet.HeaderLen, true)
	for range 3 {
		r.post(500)
	}
	require.True(t, r.writer.Write(&vnet.Header{}, pattern(1200)))
	hook.End()
	frames, _ := taken(tap)
	require.Equal(t, [][]byte{pattern(1200)}, frames, "in three buffers")
}
