package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vringnet/vring/netbackend/stub"
)

// rateInterval is how often rates are printed.
const rateInterval = time.Second

// printRates prints, each second, how much traffic each guest had that can be metered, until stop is called. Guests
// without traffic are left out.
func printRates(w io.Writer, all []*served) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(rateInterval)
		defer ticker.Stop()
		var meters []*meter
		for _, s := range all {
			if s.traffic != nil {
				meters = append(meters, &meter{guest: s, at: time.Now()})
			}
		}
		for len(meters) > 0 {
			select {
			case <-ticker.C:
				_, _ = io.WriteString(w, readAll(meters, len(all) > 1))
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// meter remembers what was counted when.
type meter struct {
	guest  *served
	at     time.Time
	before traffic
}

// traffic is what a guest and its network have exchanged, in frames and bytes without virtio-net headers.
type traffic struct {
	frames, bytes         uint64 // from the guest
	sentFrames, sentBytes uint64 // to the guest
	dropped               uint64 // frames that should have passed, either way
}

// stubTraffic tells the traffic of a stub from its counters.
func stubTraffic(c stub.Counters) traffic {
	return traffic{c.Frames, c.Bytes, c.SentFrames, c.SentBytes, c.Bad + c.Undeliverable + c.Missed}
}

func readAll(meters []*meter, named bool) string {
	var b strings.Builder
	for _, m := range meters {
		line := m.read()
		if line != "" && named {
			fmt.Fprintf(&b, "%s: ", m.guest.name)
		}
		b.WriteString(line)
	}
	return b.String()
}

// read takes the counters on the guest's thread, and returns what has come since the last time as a line, if anything.
func (m *meter) read() string {
	var now traffic
	if err := m.guest.device.Do(0, func(int64) { now = m.guest.traffic() }); err != nil {
		return "" // it does not answer, which is logged elsewhere
	}
	now.dropped += m.guest.device.Dropped()
	since := time.Since(m.at)
	line := formatRates(m.before, now, since)
	m.at, m.before = m.at.Add(since), now
	return line
}

// formatRates is the traffic between two readings as a line, empty if there was none.
func formatRates(before, now traffic, since time.Duration) string {
	if before == now {
		return ""
	}
	rate := func(before, now uint64) float64 { return float64(now-before) / since.Seconds() }
	gbit := func(before, now uint64) float64 { return rate(before, now) * 8 / 1e9 }
	return fmt.Sprintf("from the guest %.0f frames/s, %.3f Gbit/s; to the guest %.0f frames/s, %.3f Gbit/s; dropped %.0f frames/s\n",
		rate(before.frames, now.frames), gbit(before.bytes, now.bytes),
		rate(before.sentFrames, now.sentFrames), gbit(before.sentBytes, now.sentBytes),
		rate(before.dropped, now.dropped))
}
