package report

import (
	"slices"
	"time"

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
)

// GuestLimit is the share of a processor from which on the guest, not the back end, is taken for the bottleneck.
const GuestLimit = 0.95

// Result is the document of one run.
type Result struct {
	Benchmark string        `json:"benchmark"` // what was measured
	Time      time.Time     `json:"time"`      // of the start
	Machine   machine.Facts `json:"machine"`
	Settings  Settings      `json:"settings"`
	// Baseline and First are the subjects that ratios are to: the host's loopback, and the first back end. First is empty
	// if there is only one.
	Baseline string `json:"baseline"`
	First    string `json:"first,omitempty"`
	Rows     []Row  `json:"rows"`
}

// Settings are what the user has chosen.
type Settings struct {
	Rounds int           `json:"rounds"`
	Length time.Duration `json:"stream_ns"` // of each stream
	MTUs   []int         `json:"mtus"`
}

// MeasuredBackEnds returns the names of all subjects but the baseline that something was measured of, in their order.
func MeasuredBackEnds(entries []Entry, baseline string) []string {
	var names []string
	for _, e := range entries {
		if e.Subject != baseline && len(e.Samples) > 0 && !slices.Contains(names, e.Subject) {
			names = append(names, e.Subject)
		}
	}
	return names
}

// Entry is what was measured of one subject in one direction at one MTU.
type Entry struct {
	MTU       int              `json:"mtu"`
	Direction lab.Direction    `json:"direction"`
	Subject   string           `json:"subject"`
	Version   string           `json:"version,omitempty"`
	Problem   string           `json:"problem,omitempty"` // why rounds are missing
	Samples   []measure.Sample `json:"samples"`           // in the order of the rounds
}

// Row is an entry with its figures, which are summaries over the rounds.
type Row struct {
	Entry
	// Ratios of rates, round by round; all zero if there is nothing to compare with.
	ToBaseline measure.Summary `json:"ratio_to_baseline"`
	ToFirst    measure.Summary `json:"ratio_to_first"`

	Rate       measure.Summary `json:"gbit_per_second"`
	BackEndCPU measure.Summary `json:"back_end_cpu_seconds_per_gb"`
	GuestCPU   measure.Summary `json:"guest_cpu_seconds_per_gb"`
	HostCPU    measure.Summary `json:"host_cpu_seconds_per_gb"` // of the host's end of the stream

	// Shares of one processor: how long it was used, and how long it was waited for.
	GuestBusy      measure.Summary `json:"guest_busy"`
	GuestWaiting   measure.Summary `json:"guest_waiting"`
	BackEndBusy    measure.Summary `json:"back_end_busy"`
	BackEndWaiting measure.Summary `json:"back_end_waiting"`

	// GuestLimited says that the guest was at least GuestLimit busy in half of the rounds.
	GuestLimited bool `json:"guest_limited"`
}

// Rows computes the figures of entries. Those of the same MTU and direction are compared with one another.
func Rows(entries []Entry, baseline, first string) []Row {
	rows := make([]Row, 0, len(entries))
	for _, e := range entries {
		rows = append(rows, newRow(e, peerRates(entries, e, baseline), peerRates(entries, e, first)))
	}
	return rows
}

// peerRates returns the rates of a subject at the MTU and in the direction of e.
func peerRates(entries []Entry, e Entry, subject string) []float64 {
	for _, other := range entries {
		if other.Subject == subject && other.MTU == e.MTU && other.Direction == e.Direction {
			return measure.Each(other.Samples, measure.Sample.Rate)
		}
	}
	return nil
}

func newRow(e Entry, baseline, first []float64) Row {
	rates := measure.Each(e.Samples, measure.Sample.Rate)
	perGB := func(of func(measure.Usage) time.Duration) measure.Summary {
		return measure.Summarize(measure.Each(e.Samples, func(s measure.Sample) float64 { return s.PerGB(of(s.CPU)) }))
	}
	share := func(of func(measure.Usage) time.Duration) measure.Summary {
		return measure.Summarize(measure.Each(e.Samples, func(s measure.Sample) float64 { return s.Share(of(s.CPU)) }))
	}
	row := Row{
		Entry:      e,
		ToBaseline: measure.Summarize(measure.Ratios(rates, baseline)),
		ToFirst:    measure.Summarize(measure.Ratios(rates, first)),
		Rate:       measure.Summarize(rates),
		BackEndCPU: perGB(func(u measure.Usage) time.Duration { return u.BackEnd.Running }),
		GuestCPU:   perGB(func(u measure.Usage) time.Duration { return u.Guest.Running }),
		HostCPU:    perGB(func(u measure.Usage) time.Duration { return u.Host }),

		GuestBusy:      share(func(u measure.Usage) time.Duration { return u.Guest.Running }),
		GuestWaiting:   share(func(u measure.Usage) time.Duration { return u.Guest.Waiting }),
		BackEndBusy:    share(func(u measure.Usage) time.Duration { return u.BackEnd.Running }),
		BackEndWaiting: share(func(u measure.Usage) time.Duration { return u.BackEnd.Waiting }),
	}
	row.GuestLimited = row.GuestBusy.Median >= GuestLimit
	return row
}
