package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/vringnet/vring/internal/daemon"
)

// traffic prints what has passed lately.
func (t teller) traffic(e daemon.Traffic) {
	line := ratesText(e.Rates) + "\n"
	if !e.Only {
		line = e.Guest + ": " + line
	}
	t.out.print(line, slog.LevelInfo, "traffic", append([]any{"guest", e.Guest}, ratesValues(e.Rates)...)...)
}

func ratesText(r daemon.Rates) string {
	return fmt.Sprintf("from the guest %.0f frames/s, %.3f Gbit/s; to the guest %.0f frames/s, %.3f Gbit/s; dropped %.0f frames/s",
		r.FromGuest, r.FromGuestGbit, r.ToGuest, r.ToGuestGbit, r.Dropped)
}

func ratesValues(r daemon.Rates) []any {
	return []any{
		"from_guest_frames_per_second", r.FromGuest, "from_guest_gbit_per_second", r.FromGuestGbit,
		"to_guest_frames_per_second", r.ToGuest, "to_guest_gbit_per_second", r.ToGuestGbit,
		"dropped_frames_per_second", r.Dropped,
	}
}

// tested prints what has become of frames of sources.
func (t teller) tested(e daemon.Tested) {
	line, message := testText(&e.Test)+"\n", "frames tested"
	if e.Last {
		line, message = "in all: "+line, "all frames tested"
	}
	if !e.Only {
		line = e.Guest + ": " + line
	}
	t.out.print(line, slog.LevelInfo, message, append([]any{"guest", e.Guest}, testValues(&e.Test)...)...)
}

func testText(r *daemon.Test) string {
	return fmt.Sprintf("tested %d frames: %d lost, %d late, %d duplicate, %d damaged; they took %v (median), %v (99 %%), %v (99.9 %%), %v at most",
		r.Tested, r.Lost(), r.Late, r.Duplicates, r.Corrupt, rounded(r.Median), rounded(r.P99), rounded(r.P999), rounded(r.Longest))
}

// rounded returns a time in three digits: it is known no better.
func rounded(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

func testValues(r *daemon.Test) []any {
	return []any{
		"frames", r.Tested, "lost", r.Lost(), "late", r.Late, "duplicates", r.Duplicates, "corrupt", r.Corrupt,
		"median_ns", int64(r.Median), "p99_ns", int64(r.P99), "p999_ns", int64(r.P999), "longest_ns", int64(r.Longest),
	}
}
