package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/worker"
)

func TestRatesAreThoseOfTheTimeBetween(t *testing.T) {
	before := traffic{frames: 100, bytes: 6000, dropped: 1}
	now := traffic{frames: 2_000_100, bytes: 2_000_006_000, sentFrames: 10, sentBytes: 1000, dropped: 5}
	require.Equal(t, Rates{FromGuest: 1_000_000, FromGuestGbit: 8, ToGuest: 5, ToGuestGbit: 4e-6, Dropped: 2},
		ratesOf(before, now, 2*time.Second))
}

func TestRatesAreOfTheTimeInWhichTrafficWasCounted(t *testing.T) {
	start := time.Now()
	m := meter{at: start}
	_, passed := m.next(traffic{}, start.Add(time.Second))
	require.False(t, passed, "nothing has come")
	r, passed := m.next(traffic{frames: 900}, start.Add(1900*time.Millisecond)) // counted 0.1 s before it is read
	require.True(t, passed)
	require.InDelta(t, 1000, r.FromGuest, 1e-6)
	_, passed = m.next(traffic{frames: 900, dropped: 1}, start.Add(1900*time.Millisecond))
	require.False(t, passed, "the counters are those of before")
	r, passed = m.next(traffic{frames: 1900, dropped: 1}, start.Add(2900*time.Millisecond))
	require.True(t, passed)
	require.Equal(t, Rates{FromGuest: 1000, Dropped: 1}, r)
}

func TestRatesAreOfTheTimeAtWhichCountersWerePublished(t *testing.T) {
	start := time.Now()
	m := meter{at: start, guest: &served{guest: guest{traffic: stubTraffic}}}
	counters := worker.Counters{
		Age: 100 * time.Millisecond,
		Port: counting.ValuesOf(stub.Counters{
			Frames: 900, Bytes: 112_500, SentFrames: 1800, SentBytes: 225_000, Bad: 9, Undeliverable: 18, Missed: 27,
		}),
	}
	r, passed := m.count(counters, 36, start.Add(time.Second)) // counted in 0.9 s
	require.True(t, passed)
	require.Equal(t, Rates{FromGuest: 1000, FromGuestGbit: 0.001, ToGuest: 2000, ToGuestGbit: 0.002, Dropped: 100}, r)
}
