package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vringnet/vring/bench/measure"
)

// WriteMarkdown writes the machine and a table, ratios first. Figures are medians, with least and greatest in parentheses.
func (r Result) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**, %s  \n", r.Benchmark, r.Time.UTC().Format("2006-01-02 15:04 MST"))
	b.WriteString(MachineLine(r.Machine))
	fmt.Fprintf(&b, "%d rounds of %v for each row: median (least–greatest); CPU in seconds per GB; "+
		"core: used + waited for, **bold** from %.0f %% on, where the guest is the limit\n\n",
		r.Settings.Rounds, r.Settings.Length, 100*GuestLimit)
	Table(&b, r.columns(), r.Rows)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Result) columns() []Column[Row] {
	columns := []Column[Row]{
		{"MTU", func(row Row) string { return fmt.Sprint(row.MTU) }},
		{"direction", func(row Row) string { return string(row.Direction) }},
		{"subject", func(row Row) string { return row.Subject }},
		{"× " + r.Baseline, func(row Row) string { return Format(row.ToBaseline, 3) }},
	}
	if r.First != "" {
		columns = append(columns, Column[Row]{"× " + r.First, func(row Row) string { return r.toFirst(row) }})
	}
	return append(columns,
		Column[Row]{"Gbit/s", func(row Row) string { return Format(row.Rate, 2) }},
		Column[Row]{"back end CPU", func(row Row) string { return Format(row.BackEndCPU, 3) }},
		Column[Row]{"guest CPU", func(row Row) string { return Format(row.GuestCPU, 3) }},
		Column[Row]{"host end CPU", func(row Row) string { return Format(row.HostCPU, 3) }},
		Column[Row]{"back end's core", func(row Row) string { return core(row.BackEndBusy, row.BackEndWaiting, false) }},
		Column[Row]{"guest's core", func(row Row) string { return core(row.GuestBusy, row.GuestWaiting, row.GuestLimited) }},
		Column[Row]{"note", func(row Row) string { return OneLine(row.Problem) }},
	)
}

// toFirst leaves out what says nothing: the loopback is compared with by another column.
func (r Result) toFirst(row Row) string {
	if row.Subject == r.Baseline {
		return noValue
	}
	return Format(row.ToFirst, 3)
}

// core writes the medians of shares of a processor.
func core(busy, waiting measure.Summary, limit bool) string {
	if busy == (measure.Summary{}) {
		return noValue
	}
	bold := ""
	if limit {
		bold = "**"
	}
	return fmt.Sprintf("%s%.0f %%%s + %.0f %%", bold, 100*busy.Median, bold, 100*waiting.Median)
}
