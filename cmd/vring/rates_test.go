package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRatesAreThoseOfTheTimeBetween(t *testing.T) {
	before := traffic{frames: 100, bytes: 6000, dropped: 1}
	now := traffic{frames: 2_000_100, bytes: 2_000_006_000, sentFrames: 10, sentBytes: 1000, dropped: 5}
	require.Equal(t, "from the guest 1000000 frames/s, 8.000 Gbit/s; to the guest 5 frames/s, 0.000 Gbit/s; dropped 2 frames/s",
		ratesOf(before, now, 2*time.Second).text())
}
