package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/vringnet/vring/netbackend/stub"
)

// rateInterval is how often rates are printed.
const rateInterval = time.Second

// printRates prints, each second, how much traffic each guest had that can be metered, until stop is called. Guests
// without traffic are left out.
func printRates(out console, all []*served) (stop func()) {
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
				printTraffic(out, meters, len(all) > 1)
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

// printTraffic prints what has passed since the last time, a line for each guest with traffic.
func printTraffic(out console, meters []*meter, named bool) {
	for _, m := range meters {
		r, passed := m.read()
		if !passed {
			continue
		}
		line := r.text() + "\n"
		if named {
			line = m.guest.name + ": " + line
		}
		out.print(line, slog.LevelInfo, "traffic", append([]any{"guest", m.guest.name}, r.values()...)...)
	}
}

// read takes the counters on the guest's thread, and returns the rates since the last time, if anything has come.
func (m *meter) read() (r rates, passed bool) {
	var now traffic
	if err := m.guest.device.Do(0, func(int64) { now = m.guest.traffic() }); err != nil {
		return r, false // it does not answer, which is logged elsewhere
	}
	now.dropped += m.guest.device.Dropped()
	since := time.Since(m.at)
	before := m.before
	m.at, m.before = m.at.Add(since), now
	return ratesOf(before, now, since), now != before
}

// rates is traffic by the second.
type rates struct{ frames, gbit, sentFrames, sentGbit, dropped float64 }

// ratesOf returns the rates between two readings.
func ratesOf(before, now traffic, since time.Duration) rates {
	rate := func(before, now uint64) float64 { return float64(now-before) / since.Seconds() }
	const bitsOfByte, giga = 8, 1e9
	return rates{
		frames: rate(before.frames, now.frames), gbit: rate(before.bytes, now.bytes) * bitsOfByte / giga,
		sentFrames: rate(before.sentFrames, now.sentFrames), sentGbit: rate(before.sentBytes, now.sentBytes) * bitsOfByte / giga,
		dropped: rate(before.dropped, now.dropped),
	}
}

func (r rates) text() string {
	return fmt.Sprintf("from the guest %.0f frames/s, %.3f Gbit/s; to the guest %.0f frames/s, %.3f Gbit/s; dropped %.0f frames/s",
		r.frames, r.gbit, r.sentFrames, r.sentGbit, r.dropped)
}

func (r rates) values() []any {
	return []any{
		"from_guest_frames_per_second", r.frames, "from_guest_gbit_per_second", r.gbit,
		"to_guest_frames_per_second", r.sentFrames, "to_guest_gbit_per_second", r.sentGbit,
		"dropped_frames_per_second", r.dropped,
	}
}
