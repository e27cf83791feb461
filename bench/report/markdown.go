package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vringnet/vring/bench/measure"
)

// noValue stands where there is nothing to tell.
const noValue = "–"

// WriteMarkdown writes the machine and a table, ratios first. Figures are medians, with least and greatest in parentheses.
func (r Result) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "**%s**, %s  \n", r.Benchmark, r.Time.UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(&b, "%s, %d cores, Linux %s, %s, commit %s, load %s before the run  \n",
		m.Processor, m.Cores, m.Kernel, m.GoVersion, m.Commit, m.Load)
	fmt.Fprintf(&b, "%d rounds of %v for each row: median (least–greatest); CPU in seconds per GB; "+
		"core: used + waited for, **bold** from %.0f %% on, where the guest is the limit\n\n",
		r.Settings.Rounds, r.Settings.Length, 100*GuestLimit)
	r.writeTable(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// column is one column of the table.
type column struct {
	head string
	cell func(Row) string
}

func (r Result) columns() []column {
	columns := []column{
		{"MTU", func(row Row) string { return fmt.Sprint(row.MTU) }},
		{"direction", func(row Row) string { return string(row.Direction) }},
		{"subject", func(row Row) string { return row.Subject }},
		{"× " + r.Baseline, func(row Row) string { return format(row.ToBaseline, 3) }},
	}
	if r.First != "" {
		columns = append(columns, column{"× " + r.First, func(row Row) string { return r.toFirst(row) }})
	}
	return append(columns,
		column{"Gbit/s", func(row Row) string { return format(row.Rate, 2) }},
		column{"back end CPU", func(row Row) string { return format(row.BackEndCPU, 3) }},
		column{"guest CPU", func(row Row) string { return format(row.GuestCPU, 3) }},
		column{"host end CPU", func(row Row) string { return format(row.HostCPU, 3) }},
		column{"back end's core", func(row Row) string { return core(row.BackEndBusy, row.BackEndWaiting, false) }},
		column{"guest's core", func(row Row) string { return core(row.GuestBusy, row.GuestWaiting, row.GuestLimited) }},
		column{"note", func(row Row) string { return oneLine(row.Problem) }},
	)
}

// toFirst leaves out what says nothing: the loopback is compared with by another column.
func (r Result) toFirst(row Row) string {
	if row.Subject == r.Baseline {
		return noValue
	}
	return format(row.ToFirst, 3)
}

func (r Result) writeTable(b *strings.Builder) {
	columns := r.columns()
	for _, c := range columns {
		fmt.Fprintf(b, "| %s ", c.head)
	}
	fmt.Fprintf(b, "|\n%s|\n", strings.Repeat("| --- ", len(columns)))
	for _, row := range r.Rows {
		for _, c := range columns {
			fmt.Fprintf(b, "| %s ", c.cell(row))
		}
		b.WriteString("|\n")
	}
}

// format writes a summary with the given number of decimals.
func format(s measure.Summary, decimals int) string {
	if s == (measure.Summary{}) {
		return noValue
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, s.Median, decimals, s.Min, decimals, s.Max)
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

// oneLine makes any text safe for a cell.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
