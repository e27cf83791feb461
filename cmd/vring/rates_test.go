package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/testframe"
)

func TestRatesReadInALine(t *testing.T) {
	require.Equal(t, "from the guest 1000000 frames/s, 8.000 Gbit/s; to the guest 5 frames/s, 0.000 Gbit/s; dropped 2 frames/s",
		ratesText(daemon.Rates{FromGuest: 1_000_000, FromGuestGbit: 8, ToGuest: 5, ToGuestGbit: 4e-6, Dropped: 2}))
}

func TestWhatBecameOfFramesReadsInALine(t *testing.T) {
	e := daemon.Tested{Guest: "a", Last: true, Test: daemon.Test{
		Counts: testframe.Counts{Tested: 10, Missing: 5, Late: 2, Duplicates: 1, Corrupt: 3},
		Median: 155_647, P99: 2 * time.Millisecond, P999: 3 * time.Second, Longest: 4 * time.Second,
	}}
	var printed bytes.Buffer
	teller{out: newConsole(&printed, daemon.FormatText), events: control.NewEvents()}.tell(e)
	require.Equal(t, "a: in all: tested 10 frames: 3 lost, 2 late, 1 duplicate, 3 damaged; they took 156µs (median), 2ms (99 %), 3s (99.9 %), 4s at most\n", printed.String())
	printed.Reset()
	teller{out: newConsole(&printed, daemon.FormatJSON), events: control.NewEvents()}.tell(e)
	all := requireObjects(t, printed.String(), "all frames tested")
	require.Len(t, all, 1)
	require.InDelta(t, 3, all[0]["lost"], 0)
	require.InDelta(t, 2e6, all[0]["p99_ns"], 0)
}
