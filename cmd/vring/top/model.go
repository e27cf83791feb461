package top

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/vringnet/vring/cmd/vring/flowlist"
	"github.com/vringnet/vring/internal/control"
)

// interval is the time between two questions.
const interval = time.Second

// list is one of the lists below the guests.
type list int

const (
	listFlows list = iota
	listCounters
	listForwards
	lists // how many there are
)

// page is what is shown, and what keys do. It implements tea.Model. Its methods are called on one goroutine.
type page struct {
	ctx    context.Context
	client *control.Client
	socket string
	glyphs []rune // of sparklines, from low to high

	width, height int
	now, before   *reading // nil for none
	err           error    // why there is no newer reading; nil if there is one
	meters        map[string]*meter
	counts        []count // of the chosen guest

	guest   string // that is chosen; "" before the first reading
	list    list
	inList  bool // the arrows move in the list, not among the guests
	row     int  // that is chosen in the list
	order   string
	ending  *flowlist.Flow // that the user is asked about; nil for none
	message string         // what became of the last key
	paused  bool
	help    bool

	recording *recording // nil for none

	asking bool
	round  int // counts questions, so that a timer of an earlier one is known
}

func newPage(ctx context.Context, client *control.Client, socket string, glyphs []rune) *page {
	return &page{
		ctx: ctx, client: client, socket: socket, glyphs: glyphs, meters: map[string]*meter{}, order: flowlist.ByRate,
		width: usualWidth, height: usualHeight,
	}
}

// Messages to the page.
type (
	answered struct {
		reading *reading
		err     error
	}
	due   struct{ round int }
	ended struct {
		flows int
		err   error
	}
)

// Init implements tea.Model.
func (p *page) Init() tea.Cmd { return p.ask() }

// ask asks for a new reading, unless one is under way.
func (p *page) ask() tea.Cmd {
	if p.asking {
		return nil
	}
	p.asking = true
	p.round++
	guest := p.guest
	return func() tea.Msg {
		r, err := read(p.ctx, p.client, guest)
		return answered{r, err}
	}
}

// later asks again after an interval.
func (p *page) later() tea.Cmd {
	round := p.round
	return tea.Tick(interval, func(time.Time) tea.Msg { return due{round} })
}

// Update implements tea.Model.
func (p *page) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		p.width, p.height = msg.Width, msg.Height
	case answered:
		return p, p.take(msg)
	case due:
		if msg.round != p.round {
			return p, nil
		}
		if p.paused {
			return p, p.later()
		}
		return p, p.ask()
	case ended:
		p.message = endedText(msg)
		return p, p.ask()
	case recordingBegun:
		return p, p.begun(msg)
	case recordingEnded:
		p.over(msg)
	case tea.KeyPressMsg:
		return p, p.press(msg.String())
	}
	return p, nil
}

// take takes an answer over.
func (p *page) take(a answered) tea.Cmd {
	p.asking = false
	if p.err = a.err; a.err != nil {
		return p.later()
	}
	r := a.reading
	for i := range r.status.Guests {
		g := &r.status.Guests[i]
		if p.meters[g.Name] == nil {
			p.meters[g.Name] = &meter{}
		}
		p.meters[g.Name].add(g, r.at)
	}
	p.forget(r)
	if p.now != nil && p.now.guest == r.guest {
		r.flows.Measure(&p.now.flows)
	}
	p.before, p.now = p.now, r
	if !slices.Contains(r.guests(), p.guest) {
		p.guest = r.guest
	}
	p.arrange()
	if p.guest != r.guest { // another one was chosen meanwhile
		return p.ask()
	}
	return p.later()
}

// forget drops the meters of guests that there are not any more.
func (p *page) forget(r *reading) {
	names := r.guests()
	for name := range p.meters {
		if !slices.Contains(names, name) {
			delete(p.meters, name)
		}
	}
}

// arrange sorts what is shown. The flow that was chosen stays chosen.
func (p *page) arrange() {
	chosen := p.flow()
	p.now.flows.Sort(p.order)
	p.counts = countsOf(p.guest, p.now, p.before)
	p.row = clamp(p.row, p.rows())
	if chosen == nil {
		return
	}
	if i := slices.IndexFunc(p.now.flows.Flows, chosen.Same); i >= 0 {
		p.row = i
	}
}

// compareCounts puts counters that grow first.
func compareCounts(a, b count) int {
	return cmp.Or(cmp.Compare(b.rate, a.rate), cmp.Compare(b.value, a.value), cmp.Compare(a.name, b.name))
}

// flow returns a copy of the flow that is chosen, nil for none.
func (p *page) flow() *flowlist.Flow {
	if p.now == nil || p.list != listFlows || p.row >= len(p.now.flows.Flows) || p.now.guest != p.guest {
		return nil
	}
	f := p.now.flows.Flows[p.row]
	return &f
}

func endedText(e ended) string {
	switch {
	case e.err != nil:
		return "the flow goes on: " + e.err.Error()
	case e.flows == 0:
		return "there is no such flow any more"
	}
	return fmt.Sprintf("%d flow ended", e.flows)
}
