package top

import (
	"slices"
	"time"

	"github.com/vringnet/vring/internal/control/api"
)

// remembered is how many rates a meter remembers: as many as a line has room for.
const remembered = 60

// meter measures the traffic of a guest.
type meter struct {
	at         time.Time
	from, to   uint64    // bytes until then
	fromRates  []float64 // bits a second, the newest last
	toRates    []float64
	sleeps     uint64
	sleepsRate float64 // times a second that its threads went to sleep
}

// add notes what a guest had exchanged at a time. A vring that was started again begins at 0.
func (m *meter) add(g *api.Guest, at time.Time) {
	var from, to, sleeps uint64
	for i := range g.Pairs {
		p := &g.Pairs[i]
		from, to, sleeps = from+p.FromGuestBytes, to+p.ToGuestBytes, sleeps+p.Sleeps
	}
	if seconds := at.Sub(m.at).Seconds(); !m.at.IsZero() && seconds > 0 {
		const bitsOfByte = 8
		m.fromRates = remember(m.fromRates, growth(m.from, from)*bitsOfByte/seconds)
		m.toRates = remember(m.toRates, growth(m.to, to)*bitsOfByte/seconds)
		m.sleepsRate = growth(m.sleeps, sleeps) / seconds
	}
	m.at, m.from, m.to, m.sleeps = at, from, to, sleeps
}

// growth is by how much a counter has grown, which begins at 0 when it is less than before.
func growth(before, now uint64) float64 {
	if now < before {
		before = 0
	}
	return float64(now - before)
}

// remember adds a rate to those that are remembered.
func remember(rates []float64, rate float64) []float64 {
	rates = append(rates, rate)
	return rates[max(0, len(rates)-remembered):]
}

// last is the newest rate, 0 if there is none.
func last(rates []float64) float64 {
	if len(rates) == 0 {
		return 0
	}
	return rates[len(rates)-1]
}

// greatest is the greatest rate in either direction that is remembered.
func (m *meter) greatest() float64 {
	most := 0.0
	for _, r := range slices.Concat(m.fromRates, m.toRates) {
		most = max(most, r)
	}
	return most
}

// count is a counter, and how fast it grows.
type count struct {
	name  string
	value uint64
	rate  float64 // by the second
}

// countsOf returns the counters of a guest that are not 0, summed over its queue pairs: those that grow first, fast ones before slow ones.
func countsOf(guest string, now, before *reading) []count {
	values, were := sums(guest, now), map[string]uint64{}
	seconds := 0.0
	if before != nil {
		were, seconds = sums(guest, before), now.at.Sub(before.at).Seconds()
	}
	var all []count
	for name, value := range values {
		c := count{name: name, value: value}
		if seconds > 0 {
			c.rate = growth(were[name], value) / seconds
		}
		if value != 0 {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, compareCounts)
	return all
}

// sums returns the counters of a guest, summed over its queue pairs.
func sums(guest string, r *reading) map[string]uint64 {
	all := map[string]uint64{}
	for i := range r.counters {
		if r.counters[i].Guest != guest {
			continue
		}
		for name, value := range r.counters[i].Counters {
			all[name] += value
		}
	}
	return all
}
