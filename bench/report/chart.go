package report

import (
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"

	"github.com/vringnet/vring/bench/measure"
)

const (
	groupWidth = 2.6 * vg.Inch // for the bars of one group
	plotHeight = 4 * vg.Inch
	margin     = 2 * vg.Inch // for axis and legend
	// used is the part of a group's width that its bars take.
	used = 0.8
)

// Chart has groups of bars, a bar for each series: its height the median, its whisker from the least to the greatest.
type Chart struct {
	Title  string
	Unit   string // of the heights
	Groups []string
	Series []Series
}

// Series has a value for each group, which is zero where nothing was measured.
type Series struct {
	Name   string
	Values []measure.Summary
}

// WriteSVG draws the chart.
func (c Chart) WriteSVG(w io.Writer) error {
	p := plot.New()
	p.Title.Text = c.Title
	p.Y.Label.Text = c.Unit
	p.Y.Min = 0
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	for i, series := range c.Series {
		// Positions in units of groups: group 0 is centred on 0.
		barWidth := used / float64(len(c.Series))
		offset := (float64(i) - float64(len(c.Series)-1)/2) * barWidth
		if err := series.addTo(p, i, offset, groupWidth*vg.Length(barWidth)); err != nil {
			return err
		}
	}
	p.NominalX(c.Groups...)
	p.X.Min, p.X.Max = -0.5, float64(len(c.Groups))-0.5
	p.Y.Max *= 1.15 // room for the legend
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	svg, err := p.WriterTo(groupWidth*vg.Length(len(c.Groups))+margin, plotHeight, "svg")
	if err != nil {
		return err
	}
	_, err = svg.WriteTo(w)
	return err
}

// addTo adds the bars, and whiskers where something was measured.
func (s Series) addTo(p *plot.Plot, color int, offset float64, width vg.Length) error {
	var heights plotter.Values
	var whiskers whiskers
	for i, v := range s.Values {
		heights = append(heights, v.Median)
		if v != (measure.Summary{}) {
			whiskers.add(float64(i)+offset, v)
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
	p.Legend.Add(s.Name, bars)
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

func (w *whiskers) add(x float64, v measure.Summary) {
	w.XYs = append(w.XYs, plotter.XY{X: x, Y: v.Median})
	w.YErrors = append(w.YErrors, struct{ Low, High float64 }{v.Median - v.Min, v.Max - v.Median})
}
