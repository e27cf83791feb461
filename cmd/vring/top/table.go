package top

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

// table is rows below a heading.
type table struct {
	heading []string
	right   []int // columns whose cells are set to the right
	rows    [][]string
}

// lines returns the heading and so many rows at most, row at among them. That row is marked; strongly if the arrows move it.
func (t *table) lines(at, height int, strong bool) []string {
	first := clamp(at-height+1, len(t.rows))
	shown := t.rows[first:min(len(t.rows), first+max(0, height))]
	widths := widthsOf(append([][]string{t.heading}, shown...))
	lines := []string{faint.Render("  " + t.line(t.heading, widths))}
	for i, row := range shown {
		line := t.line(row, widths)
		switch {
		case first+i == at && strong:
			line = chosen.Render("> " + line)
		case first+i == at:
			line = bold.Render("> " + line)
		default:
			line = "  " + line
		}
		lines = append(lines, line)
	}
	return lines
}

// widthsOf returns the widths of the columns of rows.
func widthsOf(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], ansi.StringWidth(printable(cell)))
		}
	}
	return widths
}

// line returns a row in columns of these widths.
func (t *table) line(row []string, widths []int) string {
	cells := make([]string, len(row))
	for i, cell := range row {
		cell = printable(cell)
		room := strings.Repeat(" ", widths[i]-ansi.StringWidth(cell))
		if slices.Contains(t.right, i) {
			cells[i] = room + cell
		} else {
			cells[i] = cell + room
		}
	}
	return strings.TrimRight(strings.Join(cells, "  "), " ")
}

// cut cuts a line where the terminal ends.
func cut(line string, width int) string { return ansi.Truncate(line, max(0, width), "") }

// printable returns text in which nothing moves the cursor or changes colours: it may be the name of a file.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// scaled returns a number with three digits and a prefix, ending in a space: 1.23 M.
func scaled(v float64) string {
	const thousand = 1000
	for _, prefix := range []string{" ", " k", " M", " G", " T"} {
		switch {
		case v < 9.995:
			return trimmed(v, 2, prefix)
		case v < 99.95:
			return trimmed(v, 1, prefix)
		case v < 999.5 || prefix == " T":
			return trimmed(v, 0, prefix)
		}
		v /= thousand
	}
	panic("unreachable: the last prefix has no bound")
}

// trimmed returns a number with so many decimals, which whole small numbers do not need.
func trimmed(v float64, decimals int, prefix string) string {
	if prefix == " " && v == float64(int(v)) {
		decimals = 0
	}
	return fmt.Sprintf("%.*f%s", decimals, v, prefix)
}

// Glyphs of sparklines, from low to high.
var (
	blocks = []rune("▁▂▃▄▅▆▇█")
	ascii  = []rune("_.-=+*#@")
)

// sparkline shows the newest rates in so many columns, as parts of most. Nothing is a space.
func (p *page) sparkline(rates []float64, most float64, width int) string {
	rates = rates[max(0, len(rates)-width):]
	line := []rune(strings.Repeat(" ", width))
	for i, r := range rates {
		if r <= 0 || most <= 0 {
			continue
		}
		line[width-len(rates)+i] = p.glyphs[clamp(int(r/most*float64(len(p.glyphs))), len(p.glyphs))]
	}
	return string(line)
}
