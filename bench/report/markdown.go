package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/traffic"
)

// WriteMarkdown writes the machine, and a table for each test, ratios first. Figures are medians, with least and greatest in
// parentheses.
func (r Result) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	r.writeHead(&b)
	r.writeAbsent(&b)
	for _, test := range r.tests() {
		fmt.Fprintf(&b, "\n### %s\n\n", title(test))
		Table(&b, r.columns(kindOf(test)), slices.DeleteFunc(r.of(test), func(row Row) bool { return !r.measured(row) }))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Result) writeHead(b *strings.Builder) {
	fmt.Fprintf(b, "`%s`, %s  \n", r.Command, r.Time.UTC().Format("2006-01-02 15:04 MST"))
	b.WriteString(MachineLine(r.Machine))
	fmt.Fprintf(b, "%d rounds of %v for each row: median (least–greatest); core: used + waited for, "+
		"**bold** if the guest used %.0f %% and was the limit, *italic* if it used or waited for a core so much\n",
		r.Settings.Rounds, r.Settings.Length, 100*GuestLimit)
	if r.Interrupted {
		b.WriteString("\nThe run was interrupted: what follows are the rounds before.\n")
	}
}

// writeAbsent lists the subjects that nothing was measured of. They have no rows in the tables.
func (r Result) writeAbsent(b *strings.Builder) {
	var told []string
	for _, row := range r.Rows {
		if r.measured(row) || row.Problem == "" || slices.Contains(told, bar(row)) {
			continue
		}
		if len(told) == 0 {
			b.WriteString("\n| guest | subject | why there are no figures |\n| --- | --- | --- |\n")
		}
		told = append(told, bar(row))
		fmt.Fprintf(b, "| %s | %s | %s |\n", row.Guest, row.Subject, OneLine(row.Problem))
	}
}

// measured tells whether anything was measured of the subject of a row.
func (r Result) measured(of Row) bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return bar(row) == bar(of) && len(row.Samples) > 0 })
}

// tests returns the names of the tests that there are rows of, in their order.
func (r Result) tests() []string {
	var names []string
	for _, row := range r.Rows {
		if !slices.Contains(names, row.Test) {
			names = append(names, row.Test)
		}
	}
	return names
}

func title(test string) string {
	t, err := traffic.Find(test)
	if err != nil {
		return test
	}
	return t.Title
}

// columns returns the columns for a kind of traffic.
func (r Result) columns(kind traffic.Kind) []Column[Row] {
	unit := unitsOf(kind)
	columns := []Column[Row]{
		{"MTU", func(row Row) string { return fmt.Sprint(row.MTU) }},
		{"direction", func(row Row) string { return string(row.Direction) }},
		{"guest", func(row Row) string { return row.Guest }},
		{"subject", func(row Row) string { return row.Subject }},
		{"× " + r.Baseline, func(row Row) string { return Format(row.ToBaseline, 3) }},
		{"× " + r.First, r.toFirst},
		{unit.rate, func(row Row) string { return Format(row.Rate, unit.decimals) }},
	}
	switch kind {
	case traffic.Exchanges, traffic.Connects:
		columns = append(columns,
			Column[Row]{"p50, µs", func(row Row) string { return Format(row.P50, 0) }},
			Column[Row]{"p99, µs", func(row Row) string { return Format(row.P99, 0) }})
	case traffic.Datagrams:
		columns = append(columns, Column[Row]{"lost", lost})
	}
	return append(columns,
		Column[Row]{"back end CPU, " + unit.cost, func(row Row) string { return cost(row.BackEndCPU, unit) }},
		Column[Row]{"guest CPU", func(row Row) string { return cost(row.GuestCPU, unit) }},
		Column[Row]{"host end CPU", func(row Row) string { return cost(row.HostCPU, unit) }},
		Column[Row]{"back end's core", func(row Row) string { return core(row.BackEndBusy, row.BackEndWaiting, "") }},
		Column[Row]{"guest's core", guestCore},
		Column[Row]{"note", note},
	)
}

// toFirst leaves out what says nothing: the loopback is compared with by another column.
func (r Result) toFirst(row Row) string {
	if row.Subject == r.Baseline {
		return noValue
	}
	return Format(row.ToFirst, 3)
}

// cost writes processor time: fractions of a second per GB, or microseconds.
func cost(s measure.Summary, u units) string {
	if u.decimals == 0 {
		return Format(s, 1)
	}
	return Format(s, 3)
}

// lost writes shares of datagrams as percentages.
func lost(row Row) string {
	if len(row.Samples) == 0 {
		return noValue
	}
	return fmt.Sprintf("%.1f %% (%.1f–%.1f)", 100*row.Loss.Median, 100*row.Loss.Min, 100*row.Loss.Max)
}

// core writes the medians of shares of a processor, what was used with a mark on both sides.
func core(busy, waiting measure.Summary, mark string) string {
	if busy == (measure.Summary{}) {
		return noValue
	}
	return fmt.Sprintf("%s%.0f %%%s + %.0f %%", mark, 100*busy.Median, mark, 100*waiting.Median)
}

func guestCore(row Row) string {
	mark := ""
	switch {
	case row.GuestLimited:
		mark = "**"
	case row.GuestNeverIdle:
		mark = "*"
	}
	return core(row.GuestBusy, row.GuestWaiting, mark)
}

// note tells why rounds are missing, and that answers were lost where the table has no column for it.
func note(row Row) string {
	text := row.Problem
	if row.P50.Max > 0 && row.Loss.Max > 0 {
		text = fmt.Sprintf("%.2f %% not answered. %s", 100*row.Loss.Median, text)
	}
	return OneLine(text)
}

// Describe tells in a few words what has come of one run.
func Describe(kind traffic.Kind, s measure.Sample) string {
	unit := unitsOf(kind)
	text := fmt.Sprintf("%.*f %s", unit.decimals, s.Rate()*unit.perSecond, unit.rate)
	switch {
	case s.P50 > 0:
		text += fmt.Sprintf(", p50 %.0f µs, p99 %.0f µs", microseconds(s.P50), microseconds(s.P99))
	case kind == traffic.Datagrams:
		text += fmt.Sprintf(", %.1f %% lost", 100*s.Loss())
	}
	return text
}
