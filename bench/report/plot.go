package report

import (
	"fmt"
	"io"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

const (
	groupWidth = 2.6 * vg.Inch // for the bars of one MTU and direction
	plotHeight = 4 * vg.Inch
	margin     = 2 * vg.Inch // for axis and legend
	// used is the part of a group's width that its bars take.
	used = 0.8
)

// WriteSVG draws the rates: a group of bars for each MTU and direction, a bar for each subject, its height the median and
// its whisker from the least to the greatest.
func (r Result) WriteSVG(w io.Writer) error {
	groups, subjects := r.groups(), r.subjects()
	p := plot.New()
	p.Title.Text = r.Benchmark
	p.Y.Label.Text = "Gbit/s"
	p.Y.Min = 0
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	for i, subject := range subjects {
		// Positions in units of groups: group 0 is centred on 0.
		barWidth := used / float64(len(subjects))
		offset := (float64(i) - float64(len(subjects)-1)/2) * barWidth
		if err := r.addBars(p, subject, i, offset, groupWidth*vg.Length(barWidth)); err != nil {
			return err
		}
	}
	p.NominalX(groups...)
	p.X.Min, p.X.Max = -0.5, float64(len(groups))-0.5
	p.Y.Max *= 1.15 // room for the legend
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	svg, err := p.WriterTo(groupWidth*vg.Length(len(groups))+margin, plotHeight, "svg")
	if err != nil {
		return err
	}
	_, err = svg.WriteTo(w)
	return err
}

// addBars adds a subject's bars, and its whiskers where something was measured.
func (r Result) addBars(p *plot.Plot, subject string, color int, offset float64, width vg.Length) error {
	var heights plotter.Values
	var whiskers whiskers
	for i, group := range r.groups() {
		row := r.find(group, subject)
		heights = append(heights, row.Rate.Median)
		if len(row.Samples) > 0 {
			whiskers.add(float64(i)+offset, row)
		}
	}
	bars, err := plotter.NewBarChart(heights, width)
	if err != nil {
		return err
	}
	bars.XMin = offset
	bars.Color = plotutil.Color(color)
	bars.LineStyle.Width = 0
	p.Add(bars)
	p.Legend.Add(subject, bars)
	if len(whiskers.XYs) == 0 {
		return nil
	}
	errorBars, err := plotter.NewYErrorBars(whiskers)
	if err != nil {
		return err
	}
	p.Add(errorBars)
	return nil
}

// whiskers implements the interfaces of plotter.NewYErrorBars.
type whiskers struct {
	plotter.XYs
	plotter.YErrors
}

func (s *whiskers) add(x float64, row Row) {
	s.XYs = append(s.XYs, plotter.XY{X: x, Y: row.Rate.Median})
	s.YErrors = append(s.YErrors, struct{ Low, High float64 }{row.Rate.Median - row.Rate.Min, row.Rate.Max - row.Rate.Median})
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

// find returns the row of a subject in a group, or an empty one.
func (r Result) find(name, subject string) Row {
	i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Subject == subject && group(row) == name })
	if i < 0 {
		return Row{}
	}
	return r.Rows[i]
}
