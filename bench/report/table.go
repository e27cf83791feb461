package report

import (
	"fmt"
	"strings"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
)

// noValue stands where there is nothing to tell.
const noValue = "–"

// Column is one column of a table of rows of type R.
type Column[R any] struct {
	Head string
	Cell func(R) string
}

// Table writes rows as a Markdown table.
func Table[R any](b *strings.Builder, columns []Column[R], rows []R) {
	for _, c := range columns {
		fmt.Fprintf(b, "| %s ", c.Head)
	}
	fmt.Fprintf(b, "|\n%s|\n", strings.Repeat("| --- ", len(columns)))
	for _, row := range rows {
		for _, c := range columns {
			fmt.Fprintf(b, "| %s ", c.Cell(row))
		}
		b.WriteString("|\n")
	}
}

// Format writes a summary as median (least–greatest), with the given number of decimals.
func Format(s measure.Summary, decimals int) string {
	if s == (measure.Summary{}) {
		return noValue
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, s.Median, decimals, s.Min, decimals, s.Max)
}

// OneLine makes any text safe for a cell.
func OneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

// MachineLine describes where a run took place.
func MachineLine(m machine.Facts) string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, commit %s, load %s before the run  \n",
		m.Processor, m.Cores, m.Kernel, m.GoVersion, m.Commit, m.Load)
}
