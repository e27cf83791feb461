package taps

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/bench/testbed"
)

// entry is what was measured of a subject with a load.
type entry struct {
	load
	Subject string   `json:"subject"`
	Problem string   `json:"problem,omitempty"` // why rounds are missing
	Samples []sample `json:"samples"`           // in the order of the rounds
	err     error
}

// fail ends the entry's part in the run. What is not installed is no fault of the run.
func (e *entry) fail(err error) {
	if testbed.NotInstalled(err) {
		e.Problem = "not installed: " + err.Error()
		return
	}
	e.err = fmt.Errorf("%v, %s: %w", e.load, e.Subject, err)
	e.Problem = "failed: " + err.Error()
}

// each returns one figure of each round.
func (e *entry) each(figure func(sample) float64) []float64 {
	values := make([]float64, 0, len(e.Samples))
	for _, s := range e.Samples {
		values = append(values, figure(s))
	}
	return values
}

// row is an entry with its figures, which are summaries over the rounds.
type row struct {
	entry
	Rate       measure.Summary `json:"gbit_per_second"`
	FrameRate  measure.Summary `json:"mpps"`
	PerGB      measure.Summary `json:"back_end_cpu_seconds_per_gb"`
	PerMillion measure.Summary `json:"back_end_cpu_seconds_per_million_frames"`
	MainLoop   measure.Summary `json:"main_loop_cpu_seconds_per_gb"`
	GuestBusy  measure.Summary `json:"guest_busy"` // share of a processor

	// The first build of vring divided by this subject, round by round.
	RateRatio      measure.Summary `json:"first_by_this_rate"`
	PerSecondRatio measure.Summary `json:"first_by_this_per_cpu_second"`
}

// document is the result of a run.
type document struct {
	Benchmark string        `json:"benchmark"`
	Time      time.Time     `json:"time"` // of the start
	Machine   machine.Facts `json:"machine"`
	Rounds    int           `json:"rounds"`
	Length    time.Duration `json:"turn_ns"`
	First     string        `json:"first"` // the build of vring that ratios are of
	Rows      []row         `json:"rows"`

	entries []entry
}

var _ report.Document = (*document)(nil)

// compare makes rows of the entries. Those with the same load are compared with one another.
func (d *document) compare() {
	for _, e := range d.entries {
		first := d.firstWith(e.load)
		ratio := func(figure func(sample) float64) measure.Summary {
			if e.Subject == d.First {
				return measure.Summary{}
			}
			return measure.Summarize(measure.Ratios(first.each(figure), e.each(figure)))
		}
		d.Rows = append(d.Rows, row{
			entry:          e,
			Rate:           measure.Summarize(e.each(sample.bitRate)),
			FrameRate:      measure.Summarize(e.each(sample.frameRate)),
			PerGB:          measure.Summarize(e.each(sample.backEndPerGB)),
			PerMillion:     measure.Summarize(e.each(sample.perMillion)),
			MainLoop:       measure.Summarize(e.each(sample.mainLoopPerGB)),
			GuestBusy:      measure.Summarize(e.each(sample.guestBusy)),
			RateRatio:      ratio(sample.bitRate),
			PerSecondRatio: ratio(sample.perSecond),
		})
	}
}

// firstWith returns the entry of the first build with a load.
func (d *document) firstWith(l load) *entry {
	for i := range d.entries {
		if e := &d.entries[i]; e.Subject == d.First && e.load == l {
			return e
		}
	}
	return &entry{}
}

// failure is what went wrong in the run.
func (d *document) failure() error {
	var errs []error
	for _, e := range d.entries {
		errs = append(errs, e.err)
	}
	return errors.Join(errs...)
}

// WriteMarkdown implements report.Document.
func (d *document) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**, %s  \n", d.Benchmark, d.Time.UTC().Format("2006-01-02 15:04 MST"))
	b.WriteString(report.MachineLine(d.Machine))
	fmt.Fprintf(&b, "%d rounds of %v for each row: median (least–greatest); ratios are of %s to the row, round by round; "+
		"CPU in seconds, of the back end and of QEMU's main loop; guest: share of a processor\n\n", d.Rounds, d.Length, d.First)
	report.Table(&b, d.columns(), d.Rows)
	_, err := io.WriteString(w, b.String())
	return err
}

func (d *document) columns() []report.Column[row] {
	return []report.Column[row]{
		{Head: "front end", Cell: func(r row) string { return string(r.Contest) }},
		{Head: "bytes", Cell: func(r row) string { return fmt.Sprint(r.Size) }},
		{Head: "direction", Cell: func(r row) string { return string(r.Direction) }},
		{Head: "back end", Cell: func(r row) string { return r.Subject }},
		{Head: d.First + " ÷ this, rate", Cell: func(r row) string { return report.Format(r.RateRatio, 2) }},
		{Head: d.First + " ÷ this, per CPU s", Cell: func(r row) string { return report.Format(r.PerSecondRatio, 2) }},
		{Head: "Gbit/s", Cell: func(r row) string { return report.Format(r.Rate, 2) }},
		{Head: "Mpps", Cell: func(r row) string { return report.Format(r.FrameRate, 3) }},
		{Head: "CPU per GB", Cell: func(r row) string { return report.Format(r.PerGB, 3) }},
		{Head: "CPU per million frames", Cell: func(r row) string { return report.Format(r.PerMillion, 3) }},
		{Head: "main loop per GB", Cell: func(r row) string { return report.Format(r.MainLoop, 3) }},
		{Head: "guest", Cell: func(r row) string { return report.Format(r.GuestBusy, 2) }},
		{Head: "note", Cell: func(r row) string { return report.OneLine(r.Problem) }},
	}
}

// WriteSVG implements report.Document: a group of bars for each load.
func (d *document) WriteSVG(w io.Writer) error {
	chart := report.Chart{Title: d.Benchmark, Unit: "Gbit/s"}
	var loads []load
	for _, r := range d.Rows {
		if !slices.Contains(loads, r.load) {
			loads = append(loads, r.load)
			chart.Groups = append(chart.Groups, r.load.String())
		}
	}
	for _, r := range d.Rows {
		i := slices.IndexFunc(chart.Series, func(s report.Series) bool { return s.Name == r.Subject })
		if i < 0 {
			i = len(chart.Series)
			chart.Series = append(chart.Series, report.Series{Name: r.Subject, Values: make([]measure.Summary, len(loads))})
		}
		chart.Series[i].Values[slices.Index(loads, r.load)] = r.Rate
	}
	return chart.WriteSVG(w)
}
