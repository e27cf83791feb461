package main

import (
	"fmt"
	"log/slog"

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
