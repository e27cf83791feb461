package capture

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// paced returns a tap with the bounds of a test, in place of the usual ones.
func paced(t *testing.T, text string, snapLen int) *Tap {
	tap := newTap(t, text, snapLen)
	require.Equal(t, newPace(), tap.pace)
	tap.pace.many, tap.pace.few = load{many, manyOfBytes}, load{few, fewOfBytes}
	return tap
}

const (
	many, few               = 640, 128
	manyOfBytes, fewOfBytes = 1_000_000, 180_000
)

// flood offers a frame to a tap again and again, n times a window from start on, for some windows; its reader takes what there is once a turn of 64 frames. It
// returns how many frames were captured in each window.
func flood(t *testing.T, h *Hook, tap *Tap, frame []virtqueue.Chain, start int64, n int, windows int) (captured []uint64) {
	t.Helper()
	const turn = 64
	batch := make([]virtqueue.Chain, turn)
	for i := range batch {
		batch[i] = frame[0]
	}
	var f Frame
	for w := range int64(windows) {
		before := tap.Captured()
		for i := 0; i < n; i += turn {
			h.Begin(start+w*paceWindow+int64(i)*paceWindow/int64(n), vnet.HeaderLen)
			h.FromGuest(batch[:min(turn, n-i)])
			h.End()
			for tap.Peek(&f) {
				tap.Drop()
			}
		}
		captured = append(captured, tap.Captured()-before)
	}
	return captured
}

func TestWhoSendsMoreThanIsCapturedIsCapturedInSamples(t *testing.T) {
	for _, text := range []string{"", "less 1000"} { // with a filter, too
		t.Run(text, func(t *testing.T) {
			tap := paced(t, text, 128)
			h := NewHook([]*Tap{tap})
			frame := chainOf(t, framed(vnet.Header{}, pattern(64, 1)))
			const below, above = many, 3 * many
			require.Equal(t, []uint64{below, below, below}, flood(t, h, tap, frame, 7*paceWindow, below, 3))
			require.Zero(t, tap.Missed(), "up to the bound none is missed")
			require.Equal(t, []uint64{many, few, few}, flood(t, h, tap, frame, 10*paceWindow, above, 3))
			require.EqualValues(t, 3*above-many-2*few, tap.Missed(), "each is captured or missed")
			require.Equal(t, []uint64{few, below}, flood(t, h, tap, frame, 13*paceWindow, below, 2), "after a window with less, all are captured")
			flood(t, h, tap, frame, 15*paceWindow, above, 1)
			require.Equal(t, []uint64{below}, flood(t, h, tap, frame, 99*paceWindow, below, 1), "and so they are after a pause")
		})
	}
}

func TestLongFramesAreBoundedByTheirBytes(t *testing.T) {
	const length = 3000
	tap := paced(t, "", MaxSnapLen)
	h := NewHook([]*Tap{tap})
	captured := flood(t, h, tap, chainOf(t, framed(vnet.Header{}, pattern(length, 1))), 7*paceWindow, 600, 3)
	require.InDelta(t, fewOfBytes/length, captured[1], 1)
	require.InDelta(t, fewOfBytes/length, captured[2], 1, "what is missed counts")
	require.EqualValues(t, 1800, tap.Captured()+tap.Missed())
}

// Frames that a filter does not select are neither captured nor missed, however many there are.
func TestWhatTheFilterDoesNotSelectIsNoLoad(t *testing.T) {
	tap := paced(t, "greater 1000", 128)
	h := NewHook([]*Tap{tap})
	small, large := chainOf(t, framed(vnet.Header{}, pattern(64, 1))), chainOf(t, framed(vnet.Header{}, pattern(1400, 1)))
	require.Equal(t, []uint64{0, 0}, flood(t, h, tap, small, 7*paceWindow, 3*many, 2))
	require.Equal(t, []uint64{100}, flood(t, h, tap, large, 9*paceWindow, 100, 1))
	require.Zero(t, tap.Missed())
	flood(t, h, tap, large, 10*paceWindow, 2*many, 1)
	require.EqualValues(t, many, tap.Missed())
	for range 100 { // in the same window, in which no more is handed over
		h.FromGuest(small)
		h.ToGuest(&vnet.Header{}, small, 64)
	}
	h.End()
	require.EqualValues(t, many, tap.Missed())
}

// Frames to the guest count as well.
func TestFramesOfBothDirectionsHaveOneBound(t *testing.T) {
	tap := paced(t, "", 128)
	h := NewHook([]*Tap{tap})
	frame := chainOf(t, framed(vnet.Header{}, pattern(64, 1)))
	var f Frame
	now := 7 * paceWindow
	for range many {
		h.Begin(now, vnet.HeaderLen)
		h.FromGuest(frame)
		h.ToGuest(&vnet.Header{}, frame, 64)
		h.End()
		for tap.Peek(&f) {
			tap.Drop()
		}
	}
	require.EqualValues(t, many, tap.Captured())
	require.EqualValues(t, many, tap.Missed())
}
