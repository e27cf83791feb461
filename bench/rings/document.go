package rings

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
)

// entry is what was measured of a subject with a load.
type entry struct {
	load
	Subject string   `json:"subject"`
	Problem string   `json:"problem,omitempty"` // why rounds are missing
	Samples []sample `json:"samples"`           // in the order of the rounds
	err     error
}

// fail ends the entry's part in the run.
func (e *entry) fail(err error) {
	e.err = fmt.Errorf("%v, %s: %w", e.load, e.Subject, err)
	e.Problem = "failed: " + err.Error()
}

func (e *entry) rates() []float64 {
	rates := make([]float64, 0, len(e.Samples))
	for _, s := range e.Samples {
		rates = append(rates, s.rate())
	}
	return rates
}

// collections tells how many garbage collections the back end made in all samples.
func (e *entry) collections() string {
	total, known := 0, false
	for _, s := range e.Samples {
		if s.Collections != nil {
			total, known = total+*s.Collections, true
		}
	}
	if !known {
		return "–"
	}
	return fmt.Sprint(total)
}

// row is an entry with its figures, which are summaries over the rounds.
type row struct {
	entry
	Rate      measure.Summary `json:"mpps"`
	ToDPDK    measure.Summary `json:"ratio_to_net_vhost"` // round by round
	ToCeiling measure.Summary `json:"ratio_to_ceiling"`
}

// document is the result of a run.
type document struct {
	Benchmark string        `json:"benchmark"`
	Time      time.Time     `json:"time"` // of the start
	Machine   machine.Facts `json:"machine"`
	Rounds    int           `json:"rounds"`
	Length    time.Duration `json:"sample_ns"`
	Rows      []row         `json:"rows"`

	entries []entry
}

var _ report.Document = (*document)(nil)

// compare makes rows of the entries. Those with the same load are compared with one another.
func (d *document) compare() {
	for _, e := range d.entries {
		rates := e.rates()
		d.Rows = append(d.Rows, row{
			entry:     e,
			Rate:      measure.Summarize(rates),
			ToDPDK:    measure.Summarize(measure.Ratios(rates, d.ratesOf(nameDPDK, e.load))),
			ToCeiling: measure.Summarize(measure.Ratios(rates, d.ratesOf(nameCeiling, e.load))),
		})
	}
}

// ratesOf returns the rates of a subject with a load.
func (d *document) ratesOf(subject string, l load) []float64 {
	for i := range d.entries {
		if e := &d.entries[i]; e.Subject == subject && e.load == l {
			return e.rates()
		}
	}
	return nil
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
	fmt.Fprintf(&b, "DPDK testpmd (virtio-user) as the front end, one processor a side; "+
		"%d rounds of %v for each row: median (least–greatest); "+
		"ratios round by round; garbage collections in all of them, without the forced one of every two minutes\n\n", d.Rounds, d.Length)
	report.Table(&b, columns(), d.Rows)
	_, err := io.WriteString(w, b.String())
	return err
}

func columns() []report.Column[row] {
	onOff := map[bool]string{false: "off", true: "on"}
	pages := map[bool]string{false: "4 KiB", true: "2 MiB"}
	return []report.Column[row]{
		{Head: "mode", Cell: func(r row) string { return string(r.Mode) }},
		{Head: "bytes", Cell: func(r row) string { return fmt.Sprint(r.FrameSize) }},
		{Head: "pages", Cell: func(r row) string { return pages[r.HugePages] }},
		{Head: "IN_ORDER", Cell: func(r row) string { return onOff[r.InOrder] }},
		{Head: "MRG_RXBUF", Cell: func(r row) string { return onOff[r.Mergeable] }},
		{Head: "back end", Cell: func(r row) string { return r.Subject }},
		{Head: "× " + nameDPDK, Cell: func(r row) string { return report.Format(r.ToDPDK, 2) }},
		{Head: "× " + nameCeiling, Cell: func(r row) string { return report.Format(r.ToCeiling, 2) }},
		{Head: "Mpps", Cell: func(r row) string { return report.Format(r.Rate, 1) }},
		{Head: "collections", Cell: func(r row) string { return r.collections() }},
		{Head: "note", Cell: func(r row) string { return report.OneLine(r.Problem) }},
	}
}

// WriteSVG implements report.Document: a group of bars for each load.
func (d *document) WriteSVG(w io.Writer) error {
	chart := report.Chart{Title: d.Benchmark, Unit: "Mpps"}
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
