package adb

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vringnet/vring/bench/adb/errand"
	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
)

// figure is something that is measured of each way, by its name with the unit.
type figure string

const (
	upload   figure = "to the guest, MB/s"
	download figure = "from the guest, MB/s"
	p50      figure = "request and answer p50, µs"
	p99      figure = "request and answer p99, µs"
	connects figure = "connects with an answer, 1/s"
)

// row is a figure of both ways.
type row struct {
	Figure figure          `json:"figure"`
	ADB    []float64       `json:"adb"` // in the order of the rounds
	Vring  []float64       `json:"vring"`
	Ratio  measure.Summary `json:"vring_by_adb"` // round by round
}

// lessons are what the clients of a way have learned of an event.
type lessons struct {
	Event   string          `json:"event"`
	Way     string          `json:"way"`
	Lessons []errand.Lesson `json:"lessons"` // in the order of the rounds
}

// document is the result of a run.
type document struct {
	Benchmark string        `json:"benchmark"`
	Time      time.Time     `json:"time"` // of the start
	Command   string        `json:"command"`
	Machine   machine.Facts `json:"machine"`
	ADB       string        `json:"adb"`    // its version
	Rounds    int           `json:"rounds"` // that are complete
	Rows      []row         `json:"rows"`
	Lessons   []lessons     `json:"lessons"`
}

var _ report.Document = (*document)(nil)

// add notes a figure of a round.
func (d *document) add(what figure, way string, value float64) {
	i := slices.IndexFunc(d.Rows, func(r row) bool { return r.Figure == what })
	if i < 0 {
		i = len(d.Rows)
		d.Rows = append(d.Rows, row{Figure: what})
	}
	r := &d.Rows[i]
	if way == chain {
		r.ADB = append(r.ADB, value)
	} else {
		r.Vring = append(r.Vring, value)
	}
	r.Ratio = measure.Summarize(measure.Ratios(r.Vring, r.ADB))
}

// learn notes what a client has learned in a round.
func (d *document) learn(event, way string, l errand.Lesson) {
	i := slices.IndexFunc(d.Lessons, func(l lessons) bool { return l.Event == event && l.Way == way })
	if i < 0 {
		i = len(d.Lessons)
		d.Lessons = append(d.Lessons, lessons{Event: event, Way: way})
	}
	d.Lessons[i].Lessons = append(d.Lessons[i].Lessons, l)
}

// String writes what was learned, and the time if anything was.
func (l lessons) String() string {
	var whats []string
	var times []float64
	for _, lesson := range l.Lessons {
		if !slices.Contains(whats, lesson.What) {
			whats = append(whats, lesson.What)
		}
		times = append(times, lesson.Took.Seconds()*1e3)
	}
	what := strings.Join(whats, " or ")
	switch what {
	case errand.Nothing:
		return fmt.Sprintf("nothing within %v", learnLimit)
	case errand.Lives:
		return errand.Lives
	}
	return fmt.Sprintf("%s, %s ms", what, report.Format(measure.Summarize(times), 1))
}

// WriteMarkdown implements report.Document. Figures are medians, with least and greatest in parentheses.
func (d *document) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`, %s  \n%s  \n", d.Command, d.Time.UTC().Format("2006-01-02 15:04 MST"), d.ADB)
	b.WriteString(report.MachineLine(d.Machine))
	fmt.Fprintf(&b, "%d rounds: median (least–greatest)\n\n", d.Rounds)
	report.Table(&b, []report.Column[row]{
		{Head: "figure", Cell: func(r row) string { return string(r.Figure) }},
		{Head: chain, Cell: func(r row) string { return report.Format(measure.Summarize(r.ADB), 0) }},
		{Head: direct, Cell: func(r row) string { return report.Format(measure.Summarize(r.Vring), 0) }},
		{Head: direct + " ÷ " + chain, Cell: func(r row) string { return report.Format(r.Ratio, 2) }},
	}, d.Rows)
	b.WriteString("\n")
	report.Table(&b, []report.Column[lessons]{
		{Head: "event", Cell: func(l lessons) string { return l.Event }},
		{Head: "way", Cell: func(l lessons) string { return l.Way }},
		{Head: "what the client learns, after how long", Cell: func(l lessons) string { return report.OneLine(l.String()) }},
	}, d.sorted())
	_, err := io.WriteString(w, b.String())
	return err
}

// sorted returns the lessons with the ways of each event in the same order.
func (d *document) sorted() []lessons {
	var events []string
	for _, l := range d.Lessons {
		if !slices.Contains(events, l.Event) {
			events = append(events, l.Event)
		}
	}
	sorted := slices.Clone(d.Lessons)
	slices.SortStableFunc(sorted, func(a, b lessons) int {
		if a.Event != b.Event {
			return slices.Index(events, a.Event) - slices.Index(events, b.Event)
		}
		return strings.Compare(a.Way, b.Way)
	})
	return sorted
}

// WriteSVG implements report.Document: the throughput.
func (d *document) WriteSVG(w io.Writer) error {
	chart := report.Chart{Title: "A service in a guest, by adb forward and by vring", Unit: "MB/s"}
	both := [...]report.Series{{Name: chain}, {Name: direct}}
	for _, r := range d.Rows {
		if r.Figure != upload && r.Figure != download {
			continue
		}
		chart.Groups = append(chart.Groups, strings.TrimSuffix(string(r.Figure), ", MB/s"))
		both[0].Values = append(both[0].Values, measure.Summarize(r.ADB))
		both[1].Values = append(both[1].Values, measure.Summarize(r.Vring))
	}
	chart.Series = both[:]
	return chart.WriteSVG(w)
}
