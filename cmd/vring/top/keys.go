package top

import (
	"fmt"
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/vringnet/vring/cmd/vring/flowlist"
)

// keys are what can be pressed, as the help tells it.
var keys = [][2]string{
	{"up, down, page up, page down, home, end", "choose a guest, or a line of the list"},
	{"tab", "move between the guests and the list"},
	{"1, 2, 3", "list flows, counters or forwards"},
	{"s", "sort flows by rate, bytes or age"},
	{"k", "end the flow that is chosen, after a question"},
	{"c", "capture the guest to a file of the current directory, and end that"},
	{"p", "pause, and go on"},
	{"?", "show or hide this help"},
	{"q, ctrl+c", "quit"},
}

// press does what a key is for.
func (p *page) press(key string) tea.Cmd {
	if key == "ctrl+c" || key == "q" {
		return tea.Quit
	}
	if p.ending != nil {
		return p.answer(key)
	}
	p.message = ""
	switch key {
	case "?":
		p.help = !p.help
	case "esc":
		p.help = false
	case "p":
		p.paused = !p.paused
	case "tab", "shift+tab":
		p.inList = !p.inList
	case "1", "2", "3":
		p.list, p.row, p.inList = list(key[0]-'1'), 0, true
	case "s":
		p.nextOrder()
	case "c":
		return p.record()
	case "k":
		p.askWhetherToEnd()
	default:
		return p.move(key)
	}
	return nil
}

// nextOrder sorts flows by the next order.
func (p *page) nextOrder() {
	orders := flowlist.Orders()
	p.order = orders[(slices.Index(orders, p.order)+1)%len(orders)]
	p.row = 0
	if p.now != nil {
		p.now.flows.Sort(p.order)
	}
}

// askWhetherToEnd asks whether the flow that is chosen is to end.
func (p *page) askWhetherToEnd() {
	if p.ending = p.flow(); p.ending == nil {
		p.message = "no flow is chosen: press 1 and choose one"
	}
}

// answer answers whether a flow is to end.
func (p *page) answer(key string) tea.Cmd {
	f := p.ending
	p.ending = nil
	if key != "y" {
		p.message = "the flow goes on"
		return nil
	}
	return func() tea.Msg {
		n, err := end(p.ctx, p.client, f)
		return ended{n, err}
	}
}

// question is what the user is asked.
func (p *page) question() string {
	f := p.ending
	return fmt.Sprintf("End %s %s - %s? y ends it, any other key does not.", f.Proto, f.Flow.Guest, f.Remote)
}

// move moves what is chosen.
func (p *page) move(key string) tea.Cmd {
	const far = 10
	by := map[string]int{"up": -1, "down": 1, "pgup": -far, "pgdown": far, "home": -1 << 30, "end": 1 << 30}[key]
	if by == 0 || p.now == nil {
		return nil
	}
	if p.inList {
		p.row = clamp(p.row+by, p.rows())
		return nil
	}
	names := p.now.guests()
	if len(names) == 0 {
		return nil
	}
	guest := names[clamp(slices.Index(names, p.guest)+by, len(names))]
	if guest == p.guest {
		return nil
	}
	p.guest, p.row = guest, 0
	p.counts = countsOf(guest, p.now, p.before)
	return p.ask()
}

// rows is how many rows the list has.
func (p *page) rows() int {
	switch {
	case p.now == nil:
		return 0
	case p.list == listCounters:
		return len(p.counts)
	case p.list == listForwards:
		return len(p.now.forwards)
	case p.now.guest != p.guest:
		return 0
	}
	return len(p.now.flows.Flows)
}

// clamp returns the index next to i of something with so many parts, 0 if it has none.
func clamp(i, parts int) int { return max(0, min(i, parts-1)) }
