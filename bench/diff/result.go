package diff

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
)

// verdict is what is known of a row.
type verdict string

const (
	slower       verdict = "slower"
	faster       verdict = "faster"
	noDifference verdict = "no difference"
	notCertain   verdict = "not certain"
)

// state is one of the two states that are compared.
type state struct {
	Name   string `json:"name"`
	Commit string `json:"commit"`
}

// result is what was measured of a row.
type result struct {
	Row      string           `json:"row"`
	Estimate measure.Estimate `json:"ratio"` // of the time, NEW to OLD
	Verdict  verdict          `json:"verdict"`
	Old      float64          `json:"old_ns"` // median, for one unit of work
	New      float64          `json:"new_ns"`
	Rounds   int              `json:"rounds"`     // that count
	Thrown   int              `json:"thrown_out"` // pairs
	Note     string           `json:"note,omitempty"`
	Pairs    []pair           `json:"pairs"`

	ratios []float64
}

// add takes the pairs of a round.
func (r *result) add(pairs []pair, limit float64) {
	r.Pairs = append(r.Pairs, pairs...)
	for _, p := range pairs {
		if p.Out != "" {
			r.Thrown++
		}
	}
	if ratio, ok := ratioOf(pairs); ok {
		r.ratios = append(r.ratios, ratio)
		r.Rounds++
	}
	var old, new []float64
	for _, p := range r.Pairs {
		if p.Out == "" {
			old, new = append(old, p.Old), append(new, p.New)
		}
	}
	r.Old, r.New = measure.Summarize(old).Median, measure.Summarize(new).Median
	r.Estimate = measure.EstimateRatio(r.ratios)
	r.Verdict = judge(r.Estimate, limit)
}

// smallest is the least difference that is told: less may come from where the linker has placed code.
const smallest = 0.02

// judge says what an estimate means.
func judge(e measure.Estimate, limit float64) verdict {
	switch {
	case e.Width() > limit:
		return notCertain
	case !e.Differs() || math.Abs(e.Ratio-1) < smallest:
		return noDifference
	case e.Ratio > 1:
		return slower
	}
	return faster
}

// document is the result of a run.
type document struct {
	Time    time.Time     `json:"time"` // of the start
	Old     state         `json:"old"`
	New     state         `json:"new"`
	Machine machine.Facts `json:"machine"`
	Limit   float64       `json:"limit"` // of the width of an interval
	Worse   float64       `json:"worse"` // that a row may be
	Rows    []*result     `json:"rows"`
}

// exitStatus tells what the run means.
func (d *document) exitStatus() int {
	status := 0
	for _, r := range d.Rows {
		switch {
		case r.Verdict == slower && r.Estimate.Ratio > 1+d.Worse:
			return 1
		case r.Verdict == notCertain:
			status = 2
		}
	}
	return status
}

// writeTable prints what is known.
func (d *document) writeTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s (%s) beside %s (%s)**, time for the same work, %s  \n", d.New.Name, d.New.Commit, d.Old.Name, d.Old.Commit,
		d.Time.UTC().Format("2006-01-02 15:04 MST"))
	b.WriteString(report.MachineLine(d.Machine))
	b.WriteString("\n")
	report.Table(&b, columns(), d.Rows)
	_, err := io.WriteString(w, b.String())
	return err
}

func columns() []report.Column[*result] {
	return []report.Column[*result]{
		{Head: "row", Cell: func(r *result) string { return r.Row }},
		{Head: "old, ns", Cell: func(r *result) string { return fmt.Sprintf("%.4g", r.Old) }},
		{Head: "new, ns", Cell: func(r *result) string { return fmt.Sprintf("%.4g", r.New) }},
		{Head: "new ÷ old (95 %)", Cell: func(r *result) string { return estimate(r.Estimate) }},
		{Head: "rounds", Cell: func(r *result) string { return fmt.Sprint(r.Rounds) }},
		{Head: "pairs thrown out", Cell: func(r *result) string { return fmt.Sprintf("%d of %d", r.Thrown, len(r.Pairs)) }},
		{Head: "", Cell: func(r *result) string {
			if r.Note != "" {
				return string(r.Verdict) + ": " + report.OneLine(r.Note)
			}
			return string(r.Verdict)
		}},
	}
}

// estimate shows a ratio with its interval, if it has one.
func estimate(e measure.Estimate) string {
	switch {
	case e.Ratio == 0:
		return "–"
	case e.Low == 0:
		return fmt.Sprintf("%.3f", e.Ratio)
	}
	return fmt.Sprintf("%.3f (%.3f–%.3f)", e.Ratio, e.Low, e.High)
}

// write prints the table, or writes JSON, as was asked for.
func (d *document) write(w io.Writer, file string) error {
	if file == "" {
		return d.writeTable(w)
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if file == "-" {
		_, err := w.Write(text)
		return err
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	return d.writeTable(w)
}
