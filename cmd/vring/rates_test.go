package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
)

func TestRatesReadInALine(t *testing.T) {
	require.Equal(t, "from the guest 1000000 frames/s, 8.000 Gbit/s; to the guest 5 frames/s, 0.000 Gbit/s; dropped 2 frames/s",
		ratesText(daemon.Rates{FromGuest: 1_000_000, FromGuestGbit: 8, ToGuest: 5, ToGuestGbit: 4e-6, Dropped: 2}))
}
