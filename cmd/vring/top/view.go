package top

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/vringnet/vring/internal/control/api"
)

// The size of a terminal that does not tell its own.
const usualWidth, usualHeight = 80, 24

var (
	bold    = lipgloss.NewStyle().Bold(true)
	faint   = lipgloss.NewStyle().Faint(true)
	chosen  = lipgloss.NewStyle().Reverse(true)
	warning = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
)

// View implements tea.Model.
func (p *page) View() tea.View {
	view := tea.NewView(strings.Join(p.lines(), "\n"))
	view.AltScreen = true
	view.WindowTitle = "vring top"
	return view
}

// lines returns the lines of the page: as many as there is room for, none of them longer than the terminal is wide.
func (p *page) lines() []string {
	lines := []string{p.heading()}
	switch {
	case p.help:
		lines = append(lines, helpLines()...)
	case p.now != nil:
		lines = append(lines, p.guestLines()...)
		lines = append(lines, p.listLines(p.height-len(lines)-1)...)
	}
	lines = lines[:min(len(lines), max(0, p.height-1))]
	for len(lines) < p.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, p.footing())
	for i := range lines {
		lines[i] = cut(lines[i], p.width)
	}
	return lines
}

// heading tells of the process.
func (p *page) heading() string {
	if p.err != nil {
		return warning.Render("no answer, asking again: " + printable(p.err.Error()))
	}
	if p.now == nil {
		return "asking " + printable(p.socket)
	}
	s := &p.now.status
	up := time.Duration(s.UptimeSeconds) * time.Second
	text := fmt.Sprintf("vring %s  up %v  guests: %d  heap %sB  %s", printable(s.Version), up, len(s.Guests), scaled(float64(s.Process.HeapBytes)), printable(p.socket))
	if p.paused {
		text = "PAUSED  " + text
	}
	if p.recording != nil {
		text = "CAPTURE " + printable(p.recording.text()) + "  " + text
	}
	return bold.Render(text)
}

// footing is what the user is asked or told, or which keys there are.
func (p *page) footing() string {
	switch {
	case p.ending != nil:
		return warning.Render(printable(p.question()))
	case p.message != "":
		return bold.Render(printable(p.message))
	}
	return faint.Render("tab guests/list  1 2 3 lists  s sort  k end flow  c capture  p pause  ? help  q quit")
}

func helpLines() (lines []string) {
	lines = append(lines, "")
	for _, k := range keys {
		lines = append(lines, fmt.Sprintf("  %-42s %s", k[0], k[1]))
	}
	return append(lines, "", "  Rates are bits a second. Looking at a guest wakes none of its threads, but for its flows.")
}

// guestLines are the guests: a third of the page at most, around the one that is chosen.
func (p *page) guestLines() []string {
	t := table{heading: []string{"GUEST", "FRONT END", "FROM GUEST", "", "TO GUEST", "", "SLEEPS/s"}, right: []int{2, 4, 6}}
	at := 0
	for i := range p.now.status.Guests {
		g := &p.now.status.Guests[i]
		if g.Name == p.guest {
			at = i
		}
		t.rows = append(t.rows, p.guestRow(g))
	}
	return t.lines(at, max(1, p.height/3), !p.inList)
}

func (p *page) guestRow(g *api.Guest) []string {
	m, stage := p.meters[g.Name], g.FrontEndState()
	if g.Link == api.LinkDown {
		stage += ", link down"
	}
	const others = 77 // columns of everything else
	width := clamp((p.width-others)/2+1, remembered/2+1)
	most := m.greatest()
	return []string{
		g.Name, stage, scaled(last(m.fromRates)) + "bit/s", p.sparkline(m.fromRates, most, width),
		scaled(last(m.toRates)) + "bit/s", p.sparkline(m.toRates, most, width), fmt.Sprintf("%.0f", m.sleepsRate),
	}
}

// listLines are the list below the guests, in so many lines.
func (p *page) listLines(height int) []string {
	title := fmt.Sprintf("[1] flows of %s by %s (%s)   [2] counters (%d)   [3] forwards (%d)",
		p.guest, p.order, p.flowCount(), len(p.counts), len(p.now.forwards))
	lines := []string{"", bold.Render(printable(title))}
	var t table
	switch p.list {
	case listFlows:
		t = p.flowTable()
	case listCounters:
		t = countTable(p.counts)
	case listForwards:
		t = forwardTable(p.now.forwards)
	}
	return append(lines, t.lines(clamp(p.row, len(t.rows)), height-len(lines)-1, p.inList)...)
}

// flowCount is how many flows the guest has, as far as that is known.
func (p *page) flowCount() string {
	if p.now.guest != p.guest {
		return "..."
	}
	count := strconv.Itoa(len(p.now.flows.Flows))
	if p.now.more {
		count += "+"
	}
	return count
}

func (p *page) flowTable() table {
	t := table{heading: []string{"PROTO", "WAY", "GUEST'S END", "REMOTE", "STATE", "FROM GUEST", "TO GUEST", "AGE"}, right: []int{5, 6, 7}}
	if p.now.guest != p.guest {
		return t
	}
	const bitsOfByte = 8
	for i := range p.now.flows.Flows {
		f := &p.now.flows.Flows[i]
		way, from, to := "out", "-", "-"
		if f.Inbound {
			way = "in"
		}
		if p.now.flows.Measured {
			from, to = scaled(f.FromRate*bitsOfByte)+"bit/s", scaled(f.ToRate*bitsOfByte)+"bit/s"
		}
		age := (time.Duration(f.AgeMillis) * time.Millisecond).Round(time.Second)
		t.rows = append(t.rows, []string{f.Proto, way, f.Flow.Guest, f.Remote, f.State, from, to, age.String()})
	}
	return t
}

func countTable(counts []count) table {
	t := table{heading: []string{"COUNTER", "VALUE", "PER SECOND"}, right: []int{1, 2}}
	for i := range counts {
		c := &counts[i]
		t.rows = append(t.rows, []string{c.name, strconv.FormatUint(c.value, 10), fmt.Sprintf("%.0f", c.rate)})
	}
	return t
}

func forwardTable(forwards []api.Forward) table {
	t := table{heading: []string{"GUEST", "FORWARD", "GATE"}}
	for i := range forwards {
		f := &forwards[i]
		gate := "-"
		if f.Gate {
			gate = "yes"
		}
		t.rows = append(t.rows, []string{cmp.Or(f.Guest, "-"), f.Text, gate})
	}
	return t
}
