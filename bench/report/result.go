package report

import (
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/bench/traffic"
)

// GuestLimit is the share of a processor from which on the guest, not the back end, is taken for the bottleneck.
const GuestLimit = 0.95

// Result is the document of one run.
type Result struct {
	Time     time.Time     `json:"time"` // of the start
	Command  string        `json:"command"`
	Machine  machine.Facts `json:"machine"`
	Settings Settings      `json:"settings"`
	// Interrupted says that the run was ended before its time: some rounds are missing.
	Interrupted bool `json:"interrupted,omitempty"`
	// Baseline and First are the subjects that ratios are to: the host's loopback, and the first back end. A row is compared
	// with the first back end behind a guest of the same kind.
	Baseline string `json:"baseline"`
	First    string `json:"first"`
	Rows     []Row  `json:"rows"`
}

// Settings are what the user has chosen.
type Settings struct {
	Rounds int           `json:"rounds"`
	Length time.Duration `json:"length_ns"` // of each run of traffic
	MTUs   []int         `json:"mtus"`
}

// Key names a row.
type Key struct {
	Test      string            `json:"test"`
	MTU       int               `json:"mtu"`
	Direction testbed.Direction `json:"direction"`
	Guest     string            `json:"guest"` // the kind of guest, or what stands in its place
	Subject   string            `json:"subject"`
}

// Entry is what was measured of one subject by one test in one direction at one MTU.
type Entry struct {
	Key
	Version string           `json:"version,omitempty"`
	Problem string           `json:"problem,omitempty"` // why rounds are missing
	Samples []measure.Sample `json:"samples"`           // in the order of the rounds
}

// Row is an entry with its figures, which are summaries over the rounds.
type Row struct {
	Entry
	// Ratios of rates, round by round; all zero if there is nothing to compare with.
	ToBaseline measure.Summary `json:"ratio_to_baseline"`
	ToFirst    measure.Summary `json:"ratio_to_first"`

	// Rate is in RateUnit; costs are processor time in CostUnit.
	RateUnit   string          `json:"rate_unit"`
	Rate       measure.Summary `json:"rate"`
	CostUnit   string          `json:"cost_unit"`
	BackEndCPU measure.Summary `json:"back_end_cpu"`
	GuestCPU   measure.Summary `json:"guest_cpu"`
	HostCPU    measure.Summary `json:"host_cpu"` // of the host's end of the traffic

	// P50 and P99 are percentiles of how long an exchange took, in microseconds; Loss is a share of what was sent.
	P50  measure.Summary `json:"p50_microseconds"`
	P99  measure.Summary `json:"p99_microseconds"`
	Loss measure.Summary `json:"loss"`

	// Shares of one processor: how long it was used, and how long it was waited for.
	GuestBusy      measure.Summary `json:"guest_busy"`
	GuestWaiting   measure.Summary `json:"guest_waiting"`
	BackEndBusy    measure.Summary `json:"back_end_busy"`
	BackEndWaiting measure.Summary `json:"back_end_waiting"`

	// GuestLimited says that the guest used at least GuestLimit of a processor in half of the rounds.
	GuestLimited bool `json:"guest_limited"`
	// GuestNeverIdle says that it used or waited for one as much: it was never waiting for the back end, but for its turn.
	GuestNeverIdle bool `json:"guest_never_idle"`
}

// units are how readers want the figures of a kind of traffic.
type units struct {
	rate      string
	perSecond float64 // factor from a count per second
	cost      string
	perOne    float64 // factor from processor seconds for each
	decimals  int     // of the rate
}

func unitsOf(k traffic.Kind) units {
	each := units{perSecond: 1, perOne: 1e6}
	switch k {
	case traffic.Bytes:
		return units{rate: "Gbit/s", perSecond: 8e-9, cost: "s per GB", perOne: 1e9, decimals: 2}
	case traffic.Datagrams:
		each.rate, each.cost = "datagrams/s", "µs per datagram"
	case traffic.Connects:
		each.rate, each.cost = "connections/s", "µs per connection"
	default:
		each.rate, each.cost = "requests/s", "µs per request"
	}
	return each
}

// kindOf returns the kind of a test, by its name.
func kindOf(test string) traffic.Kind {
	t, err := traffic.Find(test)
	if err != nil {
		return ""
	}
	return t.Kind
}

// Rows computes the figures of entries. Those of the same test, MTU and direction are compared with one another.
func Rows(entries []Entry, baseline, first string) []Row {
	rows := make([]Row, 0, len(entries))
	for _, e := range entries {
		base := rates(entries, func(k Key) bool {
			k.Guest = e.Guest // the baseline has none
			return k == e.Key.of(baseline)
		})
		rows = append(rows, newRow(e, base, rates(entries, func(k Key) bool { return k == e.Key.of(first) })))
	}
	return rows
}

// of returns the key of another subject in the same place.
func (k Key) of(subject string) Key {
	k.Subject = subject
	return k
}

// rates returns the rates of the first entry that match says is the one.
func rates(entries []Entry, match func(Key) bool) []float64 {
	for _, e := range entries {
		if match(e.Key) {
			return measure.Each(e.Samples, measure.Sample.Rate)
		}
	}
	return nil
}

func newRow(e Entry, baseline, first []float64) Row {
	unit := unitsOf(kindOf(e.Test))
	over := func(figure func(measure.Sample) float64) measure.Summary {
		return measure.Summarize(measure.Each(e.Samples, figure))
	}
	cost := func(of func(measure.Usage) time.Duration) measure.Summary {
		return over(func(s measure.Sample) float64 { return s.Per(of(s.CPU)) * unit.perOne })
	}
	share := func(of func(measure.Usage) time.Duration) measure.Summary {
		return over(func(s measure.Sample) float64 { return s.Share(of(s.CPU)) })
	}
	own := measure.Each(e.Samples, measure.Sample.Rate)
	row := Row{
		Entry:      e,
		ToBaseline: measure.Summarize(measure.Ratios(own, baseline)),
		ToFirst:    measure.Summarize(measure.Ratios(own, first)),
		RateUnit:   unit.rate,
		Rate:       over(func(s measure.Sample) float64 { return s.Rate() * unit.perSecond }),
		CostUnit:   unit.cost,
		BackEndCPU: cost(func(u measure.Usage) time.Duration { return u.BackEnd.Running }),
		GuestCPU:   cost(func(u measure.Usage) time.Duration { return u.Guest.Running }),
		HostCPU:    cost(func(u measure.Usage) time.Duration { return u.Host }),

		P50:  over(func(s measure.Sample) float64 { return microseconds(s.P50) }),
		P99:  over(func(s measure.Sample) float64 { return microseconds(s.P99) }),
		Loss: over(measure.Sample.Loss),

		GuestBusy:      share(func(u measure.Usage) time.Duration { return u.Guest.Running }),
		GuestWaiting:   share(func(u measure.Usage) time.Duration { return u.Guest.Waiting }),
		BackEndBusy:    share(func(u measure.Usage) time.Duration { return u.BackEnd.Running }),
		BackEndWaiting: share(func(u measure.Usage) time.Duration { return u.BackEnd.Waiting }),
	}
	row.GuestLimited = row.GuestBusy.Median >= GuestLimit
	row.GuestNeverIdle = row.GuestBusy.Median+row.GuestWaiting.Median >= GuestLimit
	return row
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
