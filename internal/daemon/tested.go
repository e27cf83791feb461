package daemon

import (
	"time"

	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/testframe"
)

// Test is what has become of the frames of sources, and how long they took from the turn that sent them to the one that took them.
type Test struct {
	testframe.Counts
	Median, P99, P999, Longest time.Duration
}

// Lost returns how many frames have not come so far, not even late.
func (t *Test) Lost() uint64 { return t.Missing - min(t.Late, t.Missing) }

// tellTest tells what has become of frames of sources, if any have come to a network that checks them.
func (s *served) tellTest(last bool) {
	if s.latency == nil {
		return
	}
	counters, err := s.device.Counters(0)
	if err != nil {
		return // the next time has this one's
	}
	var c stub.Counters
	counters.Port.Fill(&c)
	if c.Tested+c.Corrupt == 0 {
		return
	}
	times, longest := s.latency(0.5, 0.99, 0.999)
	s.tell(Tested{Guest: s.name, Only: s.only, Last: last, Test: Test{c.Counts, times[0], times[1], times[2], longest}})
}
