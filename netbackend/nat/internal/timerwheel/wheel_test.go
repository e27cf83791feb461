package timerwheel

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
)

// newWheel returns a wheel over n indices.
func newWheel(t interface{ Fatal(...any) }, n int) (*Wheel, []uint32) {
	table := flowtable.New(n)
	timers := NewTimers(table)
	flows := make([]uint32, n)
	for j := range flows {
		flows[j], _ = table.Insert(&flowtable.Key{GuestPort: uint16(j + 1)}, 1, timers.Make)
		if flows[j] == none {
			t.Fatal("there is no room")
		}
	}
	w := New(timers)
	return &w, flows
}

func TestATimerIsNeverEarlyAndAtMostATickLate(t *testing.T) {
	for _, d := range []time.Duration{
		1, time.Millisecond, 4 * time.Millisecond, 5 * time.Millisecond, time.Second, 1023 * time.Millisecond,
		1024 * time.Millisecond, 1025 * time.Millisecond, time.Minute, 262 * time.Second, 10 * time.Minute, 3 * time.Hour,
	} {
		t.Run(d.String(), func(t *testing.T) {
			w, flows := newWheel(t, 1)
			start := int64(123456789)
			w.Advance(start, func(uint32) { t.Fatal("nothing was set") })
			due := start + int64(d)
			w.Set(flows[0], due)
			expired := int64(0)
			for now := start; expired == 0; {
				next := w.Next()
				require.NotZero(t, next)
				now = max(now, next)
				w.Advance(now, func(uint32) { expired = now })
			}
			require.GreaterOrEqual(t, expired, due)
			require.Less(t, expired, due+tick)
			require.Zero(t, w.Next(), "nothing is left")
		})
	}
}

func TestAClearedTimerDoesNotExpire(t *testing.T) {
	w, flows := newWheel(t, 2)
	w.Set(flows[0], 50e6)
	w.Set(flows[1], 60e6)
	w.Set(flows[0], 0)
	w.Remove(flows[1])
	w.Advance(1e9, func(uint32) { t.Fatal("expired") })
}

// The wheel behaves as a plain list of deadlines would.
func TestTheWheelAgreesWithAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 8
		w, flows := newWheel(t, n)
		var want [n]int64
		now := int64(0)
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for range steps {
			i := rapid.IntRange(0, n-1).Draw(t, "flow")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				want[i] = now + int64(rapid.IntRange(1, 400_000).Draw(t, "ms"))*1e6
				w.Set(flows[i], want[i])
			case 1:
				want[i] = 0
				w.Set(flows[i], 0)
			default:
				now += int64(rapid.IntRange(0, 100_000).Draw(t, "advance")) * 1e6
				w.Advance(now, func(f uint32) {
					k := slices.Index(flows, f)
					if want[k] == 0 || want[k] > now {
						t.Fatalf("flow %d expired at %d, want %d", k, now, want[k])
					}
					want[k] = 0
				})
				for k, at := range want {
					if at != 0 && at+tick <= now {
						t.Fatalf("flow %d was due at %d and did not expire by %d", k, at, now)
					}
				}
			}
		}
	})
}

// However many timers are due, one turn does a bounded number of them, the next turn is at once, and a timer that was moved or
// cleared meanwhile counts as it is then.
func TestTimersThatAreDueTogetherExpireInPortions(t *testing.T) {
	const n = 3*maxExpired + 10
	w, flows := newWheel(t, n)
	for i, f := range flows {
		w.Set(f, int64(i+1)*1e6)
	}
	now := int64(3600e9)
	seen := map[uint32]bool{}
	more := false
	turn := func() (expired int) {
		more = w.Advance(now, func(f uint32) {
			require.False(t, seen[f], "once is enough")
			require.Zero(t, w.Deadline(f))
			seen[f] = true
			expired++
		})
		return expired
	}
	require.Equal(t, maxExpired, turn())
	require.True(t, more)
	var moved, cleared, gone uint32
	for _, f := range flows {
		switch {
		case seen[f]:
		case moved == none:
			moved = f
		case cleared == none:
			cleared = f
		case gone == none:
			gone = f
		}
	}
	later := now + 10e9
	w.Set(moved, later)
	w.Set(cleared, 0)
	w.Remove(gone)
	require.LessOrEqual(t, maxExpired-2, turn())
	for more {
		turn()
	}
	require.Len(t, seen, n-3)
	now = later - 1
	require.Zero(t, turn())
	now = later + tick
	require.Equal(t, 1, turn())
	require.True(t, seen[moved])
	require.Zero(t, w.Next())
}

// The owner of an index gives its timer to another one's wheel, which may stand at another time.
func TestATimerGoesFromOneWheelToAnother(t *testing.T) {
	a, flows := newWheel(t, 3)
	b := New(a.timers)
	a.Advance(5e9, nil)
	b.Advance(6e9, nil)
	for _, f := range flows {
		a.Set(f, 8e9)
	}
	moved, without := flows[1], flows[2]
	a.Set(without, 0)
	for _, f := range []uint32{moved, without} {
		a.Leave(f)
		b.Join(f)
	}
	require.EqualValues(t, 8e9, b.Deadline(moved))
	require.Zero(t, b.Deadline(without))
	var expired []uint32
	note := func(f uint32) { expired = append(expired, f) }
	a.Advance(9e9, note)
	require.Equal(t, flows[:1], expired)
	require.Zero(t, a.Next())
	b.Advance(7e9, note)
	require.Len(t, expired, 1)
	b.Advance(9e9, note)
	require.Equal(t, flows[:2], expired)
	require.Zero(t, b.Next())
}

// A flow that is over leaves no timer to the next one with its index.
func TestATimerOfANewFlowIsNotSet(t *testing.T) {
	w, flows := newWheel(t, 1)
	w.Set(flows[0], 50e6)
	w.Remove(flows[0])
	require.Zero(t, w.Deadline(flows[0]))
	w.Set(flows[0], 50e6)
	w.Leave(flows[0])
	w.timers.Make(flows[0])
	require.Zero(t, w.Deadline(flows[0]))
	w.Advance(1e9, func(uint32) { t.Fatal("expired") })
}

func TestTimersCostNoAllocation(t *testing.T) {
	w, flows := newWheel(t, 2)
	now := int64(0)
	expired := func(uint32) {}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		now += 50e6
		w.Set(flows[0], now+10e6)
		w.Set(flows[1], now+2e9)
		w.Advance(now, expired)
	}))
}
