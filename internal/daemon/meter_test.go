package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRatesAreThoseOfTheTimeBetween(t *testing.T) {
	before := traffic{frames: 100, bytes: 6000, dropped: 1}
	now := traffic{frames: 2_000_100, bytes: 2_000_006_000, sentFrames: 10, sentBytes: 1000, dropped: 5}
	require.Equal(t, Rates{FromGuest: 1_000_000, FromGuestGbit: 8, ToGuest: 5, ToGuestGbit: 4e-6, Dropped: 2},
		ratesOf(before, now, 2*time.Second))
}
