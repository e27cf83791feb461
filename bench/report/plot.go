package report

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/vringnet/vring/bench/measure"
)

// WriteFiles writes the document as result.json and result.md, and a chart for each test as TEST.svg, into a folder, which
// it makes if need be. What is there of an earlier call is replaced.
func (r Result) WriteFiles(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	errs := []error{
		writeFile(filepath.Join(folder, "result.json"), func(w io.Writer) error { return writeJSON(w, r) }),
		writeFile(filepath.Join(folder, "result.md"), r.WriteMarkdown),
	}
	for _, test := range r.tests() {
		errs = append(errs, writeFile(filepath.Join(folder, test+".svg"), r.Chart(test).WriteSVG))
	}
	return errors.Join(errs...)
}

// Chart draws the rates of a test: a group of bars for each MTU and direction, a bar for each subject.
func (r Result) Chart(test string) Chart {
	rows := r.of(test)
	chart := Chart{Title: title(test), Unit: unitsOf(kindOf(test)).rate}
	for _, row := range rows {
		if name := group(row); !slices.Contains(chart.Groups, name) {
			chart.Groups = append(chart.Groups, name)
		}
	}
	for _, row := range rows {
		name := bar(row)
		told := slices.ContainsFunc(chart.Series, func(s Series) bool { return s.Name == name })
		if told || !r.measured(row) {
			continue
		}
		series := Series{Name: name}
		for _, group := range chart.Groups {
			series.Values = append(series.Values, rateOf(rows, group, name))
		}
		chart.Series = append(chart.Series, series)
	}
	return chart
}

// of returns the rows of a test.
func (r Result) of(test string) []Row {
	var rows []Row
	for _, row := range r.Rows {
		if row.Test == test {
			rows = append(rows, row)
		}
	}
	return rows
}

func group(row Row) string { return fmt.Sprintf("MTU %d, %s", row.MTU, row.Direction) }

// bar names what a bar stands for.
func bar(row Row) string { return row.Subject + ", guest: " + row.Guest }

// rateOf returns that of a bar in a group, zero if there is none.
func rateOf(rows []Row, groupName, barName string) measure.Summary {
	i := slices.IndexFunc(rows, func(row Row) bool { return bar(row) == barName && group(row) == groupName })
	if i < 0 {
		return measure.Summary{}
	}
	return rows[i].Rate
}
