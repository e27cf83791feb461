package report

import (
	"fmt"
	"io"
	"slices"

	"github.com/vringnet/vring/bench/measure"
)

// WriteSVG draws the rates: a group of bars for each MTU and direction, a bar for each subject.
func (r Result) WriteSVG(w io.Writer) error {
	chart := Chart{Title: r.Benchmark, Unit: "Gbit/s", Groups: r.groups()}
	for _, subject := range r.subjects() {
		series := Series{Name: subject}
		for _, group := range chart.Groups {
			series.Values = append(series.Values, r.rate(group, subject))
		}
		chart.Series = append(chart.Series, series)
	}
	return chart.WriteSVG(w)
}

// groups returns the names of the groups of bars.
func (r Result) groups() []string {
	var names []string
	for _, row := range r.Rows {
		if name := group(row); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func group(row Row) string { return fmt.Sprintf("MTU %d, %s", row.MTU, row.Direction) }

// subjects returns the names of those that were measured.
func (r Result) subjects() []string {
	var names []string
	for _, row := range r.Rows {
		if len(row.Samples) > 0 && !slices.Contains(names, row.Subject) {
			names = append(names, row.Subject)
		}
	}
	return names
}

// rate returns that of a subject in a group, zero if there is none.
func (r Result) rate(name, subject string) measure.Summary {
	i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Subject == subject && group(row) == name })
	if i < 0 {
		return measure.Summary{}
	}
	return r.Rows[i].Rate
}
