package nat

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// newWheel returns a wheel over n flows.
func newWheel(n int) (*wheel, []*flow) {
	table := newFlowTable(n)
	flows := make([]*flow, n)
	for i := range flows {
		key := flowKey{guestPort: uint16(i + 1)}
		flows[i], _ = table.insert(&key, 1, udpFlow{})
		flows[i].state = stateOpen
	}
	return &wheel{flows: table}, flows
}

func TestATimerIsNeverEarlyAndAtMostATickLate(t *testing.T) {
	for _, d := range []time.Duration{
		1, time.Millisecond, 4 * time.Millisecond, 5 * time.Millisecond, time.Second, 1023 * time.Millisecond,
		1024 * time.Millisecond, 1025 * time.Millisecond, time.Minute, 262 * time.Second, 10 * time.Minute, 3 * time.Hour,
	} {
		t.Run(d.String(), func(t *testing.T) {
			w, flows := newWheel(1)
			start := int64(123456789)
			w.advance(start, func(*flow) { t.Fatal("nothing was set") })
			due := start + int64(d)
			w.set(flows[0], due)
			expired := int64(0)
			for now := start; expired == 0; {
				next := w.next()
				require.NotZero(t, next)
				now = max(now, next)
				w.advance(now, func(*flow) { expired = now })
			}
			require.GreaterOrEqual(t, expired, due)
			require.Less(t, expired, due+tick)
			require.Zero(t, w.next(), "nothing is left")
		})
	}
}

func TestAClearedTimerDoesNotExpire(t *testing.T) {
	w, flows := newWheel(2)
	w.set(flows[0], 50e6)
	w.set(flows[1], 60e6)
	w.set(flows[0], 0)
	w.remove(flows[1])
	w.advance(1e9, func(*flow) { t.Fatal("expired") })
}

// The wheel behaves as a plain list of deadlines would.
func TestTheWheelAgreesWithAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 8
		w, flows := newWheel(n)
		var want [n]int64
		now := int64(0)
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for range steps {
			i := rapid.IntRange(0, n-1).Draw(t, "flow")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				want[i] = now + int64(rapid.IntRange(1, 400_000).Draw(t, "ms"))*1e6
				w.set(flows[i], want[i])
			case 1:
				want[i] = 0
				w.set(flows[i], 0)
			default:
				now += int64(rapid.IntRange(0, 100_000).Draw(t, "advance")) * 1e6
				w.advance(now, func(f *flow) {
					k := int(f.key.guestPort) - 1
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
	w, flows := newWheel(n)
	for i, f := range flows {
		w.set(f, int64(i+1)*1e6)
	}
	now := int64(3600e9)
	seen := map[*flow]bool{}
	more := false
	turn := func() (expired int) {
		more = w.advance(now, func(f *flow) {
			require.False(t, seen[f], "once is enough")
			require.Zero(t, f.deadline)
			seen[f] = true
			expired++
		})
		return expired
	}
	require.Equal(t, maxExpired, turn())
	require.True(t, more)
	var moved, cleared, gone *flow
	for _, f := range flows {
		switch {
		case seen[f]:
		case moved == nil:
			moved = f
		case cleared == nil:
			cleared = f
		case gone == nil:
			gone = f
		}
	}
	later := now + 10e9
	w.set(moved, later)
	w.set(cleared, 0)
	w.remove(gone)
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
	require.Zero(t, w.next())
}
