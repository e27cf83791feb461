package ipfrag

import (
	"testing"

	"pgregory.net/rapid"
)

// span is a fragment as a naive model keeps it.
type span struct {
	start, end int
	more       bool
}

// goesWith reports whether b may be of the same datagram as a.
func (a span) goesWith(b span) bool {
	switch {
	case a.start < b.end && b.start < a.end: // overlap
		return false
	case !a.more && !b.more:
		return false
	case !a.more:
		return b.end <= a.start
	case !b.more:
		return a.end <= b.start
	}
	return true
}

// whole reports whether spans, of which none overlap, leave no hole.
func whole(spans []span) bool {
	have, total := 0, 0
	for _, s := range spans {
		have += s.end - s.start
		if !s.more {
			total = s.end
		}
	}
	return have == total
}

func TestAPacketAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Packet
		var taken []span
		for range rapid.IntRange(1, 12).Draw(t, "fragments") {
			s := span{start: 8 * rapid.IntRange(0, 12).Draw(t, "unit"), more: rapid.Bool().Draw(t, "more")}
			s.end = s.start + 8*rapid.IntRange(1, 4).Draw(t, "units")
			if !s.more {
				s.end -= rapid.IntRange(0, 7).Draw(t, "cut")
			}
			fits := true
			for _, other := range taken {
				fits = fits && s.goesWith(other)
			}
			if _, got := a.Add(s.start, s.end-s.start, s.more); got != fits {
				t.Fatalf("%v after %v: taken %v, want %v", s, taken, got, fits)
			}
			if !fits {
				return // the packet is invalid
			}
			taken = append(taken, s)
			if got := a.Complete(); got != whole(taken) {
				t.Fatalf("%v: complete %v", taken, got)
			}
		}
	})
}
