package daemon

import (
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/worker"
)

// rateInterval is how often rates are told.
const rateInterval = time.Second

// Rates is traffic by the second, of frames without virtio-net headers.
type Rates struct {
	FromGuest, ToGuest         float64 // frames
	FromGuestGbit, ToGuestGbit float64 // 10^9 bits
	Dropped                    float64 // frames that should have passed, either way
}

// traffic is what a guest and its network have exchanged, in frames and bytes without virtio-net headers.
type traffic struct {
	frames, bytes         uint64 // from the guest
	sentFrames, sentBytes uint64 // to the guest
	dropped               uint64 // frames that should have passed, either way
}

// stubTraffic tells the traffic of a stub from its counters.
func stubTraffic(v counting.Values) traffic {
	var c stub.Counters
	v.Fill(&c)
	return traffic{c.Frames, c.Bytes, c.SentFrames, c.SentBytes, c.Bad + c.Undeliverable + c.Missed}
}

// meterTraffic tells, each second, how much traffic the guest had, if that can be metered, until stop is called. A second without traffic
// is left out.
func (s *served) meterTraffic() (stop func()) {
	if s.traffic == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		s.tellTraffic(quit)
	}()
	return func() {
		close(quit)
		<-done
	}
}

// tellTraffic tells of traffic until quit is closed.
func (s *served) tellTraffic(quit <-chan struct{}) {
	ticker := time.NewTicker(rateInterval)
	defer ticker.Stop()
	m := &meter{guest: s, at: time.Now()}
	for {
		select {
		case <-ticker.C:
		case <-quit:
			return
		}
		if rates, passed := m.read(); passed {
			s.tell(Traffic{Guest: s.name, Only: s.only, Rates: rates})
			s.tellTest(false)
		}
	}
}

// meter remembers what was counted when.
type meter struct {
	guest  *served
	at     time.Time
	before traffic
}

// read returns the rates since the last time, if anything has come.
func (m *meter) read() (r Rates, passed bool) {
	counters, err := m.guest.device.Counters(0)
	if err != nil {
		return r, false // the next time has this one's
	}
	return m.count(counters, m.guest.device.Dropped(), time.Now())
}

// count returns the rates from the last counters to those that are read at a time, if anything has come. disabled are frames
// that were dropped because their ring was.
func (m *meter) count(counters worker.Counters, disabled uint64, at time.Time) (r Rates, passed bool) {
	now := m.guest.traffic(counters.Port)
	now.dropped += disabled
	return m.next(now, at.Add(-counters.Age))
}

// next returns the rates from the last counters to those of at, if anything has come. Counters of the same moment as before
// are left for the next time.
func (m *meter) next(now traffic, at time.Time) (r Rates, passed bool) {
	since, before := at.Sub(m.at), m.before
	if since <= 0 {
		return r, false
	}
	m.at, m.before = at, now
	return ratesOf(before, now, since), now != before
}

// ratesOf returns the rates between two readings.
func ratesOf(before, now traffic, since time.Duration) Rates {
	rate := func(before, now uint64) float64 { return float64(now-before) / since.Seconds() }
	const bitsOfByte, giga = 8, 1e9
	return Rates{
		FromGuest: rate(before.frames, now.frames), FromGuestGbit: rate(before.bytes, now.bytes) * bitsOfByte / giga,
		ToGuest: rate(before.sentFrames, now.sentFrames), ToGuestGbit: rate(before.sentBytes, now.sentBytes) * bitsOfByte / giga,
		Dropped: rate(before.dropped, now.dropped),
	}
}
