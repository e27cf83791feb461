package latency

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
)

// row is a subject with its figures: percentiles of each round in microseconds, and summaries of them over the rounds.
type row struct {
	Subject string          `json:"subject"`
	Rounds  []percentiles   `json:"rounds"`
	P50     measure.Summary `json:"p50_us"`
	P99     measure.Summary `json:"p99_us"`
}

type percentiles struct {
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
}

// document is the result of a run.
type document struct {
	Benchmark string        `json:"benchmark"`
	Time      time.Time     `json:"time"`
	Machine   machine.Facts `json:"machine"`
	Rounds    int           `json:"rounds"`
	Frames    int           `json:"frames"` // in a round
	Gap       time.Duration `json:"gap_ns"`
	Rows      []row         `json:"rows"`
}

var _ report.Document = (*document)(nil)

// add notes a turn of subject i.
func (d *document) add(i int, name string, times []time.Duration) {
	if i == len(d.Rows) {
		d.Rows = append(d.Rows, row{Subject: name})
	}
	us := func(t time.Duration) float64 { return float64(t.Nanoseconds()) / 1e3 }
	d.Rows[i].Rounds = append(d.Rows[i].Rounds, percentiles{us(percentile(times, 50)), us(percentile(times, 99))})
}

// percentile returns the time that so many of a hundred did not exceed.
func percentile(times []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[(len(sorted)-1)*p/100]
}

func (d *document) summarize() {
	for i := range d.Rows {
		var p50, p99 []float64
		for _, r := range d.Rows[i].Rounds {
			p50, p99 = append(p50, r.P50), append(p99, r.P99)
		}
		d.Rows[i].P50, d.Rows[i].P99 = measure.Summarize(p50), measure.Summarize(p99)
	}
}

// WriteMarkdown implements report.Document.
func (d *document) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**, %s  \n", d.Benchmark, d.Time.UTC().Format("2006-01-02 15:04 MST"))
	b.WriteString(report.MachineLine(d.Machine))
	fmt.Fprintf(&b, "%d rounds of %d frames of %d bytes, one at a time, %v between two: median (least–greatest) of the rounds\n\n",
		d.Rounds, d.Frames, frameLen, d.Gap)
	report.Table(&b, []report.Column[row]{
		{Head: "back end", Cell: func(r row) string { return r.Subject }},
		{Head: "p50, µs", Cell: func(r row) string { return report.Format(r.P50, 1) }},
		{Head: "p99, µs", Cell: func(r row) string { return report.Format(r.P99, 1) }},
	}, d.Rows)
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteSVG implements report.Document: a group for each percentile.
func (d *document) WriteSVG(w io.Writer) error {
	chart := report.Chart{Title: d.Benchmark, Unit: "µs", Groups: []string{"p50", "p99"}}
	for _, r := range d.Rows {
		chart.Series = append(chart.Series, report.Series{Name: r.Subject, Values: []measure.Summary{r.P50, r.P99}})
	}
	return chart.WriteSVG(w)
}
