package labgraph

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Lab is what is drawn.
type Lab struct {
	Name    string
	Guests  []Guest
	Uplinks map[string][]string // where switches lead beyond this host, by their names
}

// Guest is a guest of a lab. Texts are drawn as far as there is room.
type Guest struct {
	Name      string
	Switch    string // that it is on; "" is the one without a name
	Own       bool   // it is on no switch
	VLANs     string // of its port, "" for nothing special
	NAT       bool   // it reaches the outside by the host
	Device    string // TAP device of the host that it is connected to, "" for none
	Link      string // how its link is, "" for one that is not emulated
	Forwards  []string
	Up        bool // its driver is
	Addresses []string
}

// Sizes in pixels.
const (
	boxWidth, boxHeight = 176, 96
	gap                 = 20
	margin              = 24
	trunk               = 26 // from the left edge to where the first box begins
	drop                = 44 // from a network to the boxes below it
	header              = 66
	perRow              = 6
	letters             = 27 // that there is room for in a box
)

const style = `<style>
text{font:13px system-ui,sans-serif;fill:#1b2733}
.title{font-size:18px;font-weight:600}.small{font-size:11px;fill:#5b6b7a}.name{font-weight:600}
.page{fill:#ffffff}.box{fill:#f4f7fa;stroke:#b7c4d1}.up{fill:#e3f5ea;stroke:#3f9d63}
.wire{stroke:#8fa1b3;stroke-width:2;fill:none}.net{stroke:#2f6fb5;stroke-width:5;stroke-linecap:round;fill:none}
.slow{stroke-dasharray:5 4}.out{fill:#2f6fb5}.outline{fill:#ffffff;stroke:#2f6fb5}
@media (prefers-color-scheme: dark){
text{fill:#e4ebf2}.small{fill:#9fb0c0}.page{fill:#12181f}.box{fill:#1d2731;stroke:#46586a}.up{fill:#1b3a29;stroke:#4fbf7c}
.wire{stroke:#64788c}.net{stroke:#5a9be0}.out{fill:#5a9be0}.outline{fill:#12181f;stroke:#5a9be0}}
</style>
`

// network is a switch with its guests, or all guests without one.
type network struct {
	label  string
	out    bool // a guest of it reaches the outside
	bar    bool
	guests []Guest
}

// networks are those of a lab, in the order of their first guests.
func (l *Lab) networks() (all []*network) {
	byLabel := map[string]*network{}
	for _, g := range l.Guests {
		label := "switch " + g.Switch
		switch {
		case g.Own:
			label = "guests on no switch"
		case g.Switch == "":
			label = "switch"
		}
		n := byLabel[label]
		if n == nil {
			n = &network{label: label, bar: !g.Own}
			if !g.Own {
				n.label = strings.Join(append([]string{label}, l.Uplinks[g.Switch]...), ", ")
			}
			byLabel[label], all = n, append(all, n)
		}
		n.guests, n.out = append(n.guests, g), n.out || g.NAT
	}
	return all
}

// rows divides the guests of a network.
func (n *network) rows() [][]Guest { return slices.Collect(slices.Chunk(n.guests, perRow)) }

func (n *network) height() int { return len(n.rows())*(drop+boxHeight+gap) + gap }

// SVG returns the picture, which is a whole document.
func SVG(l *Lab) []byte {
	p := new(picture)
	columns, height := 1, header
	all := l.networks()
	for _, n := range all {
		columns, height = max(columns, min(len(n.guests), perRow)), height+n.height()
	}
	width := max(2*margin+trunk+columns*(boxWidth+gap)-gap, 420)
	height += margin
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", width, height, width, height)
	p.printf("<title>%s</title>\n%s", escaped("The lab "+l.Name), style)
	p.printf(`<rect class="page" width="%d" height="%d"/>`+"\n", width, height)
	p.text(margin, 34, "title", l.Name)
	if slices.ContainsFunc(all, func(n *network) bool { return n.out }) {
		p.host(width, header)
	}
	y := header
	for _, n := range all {
		p.network(n, y, width)
		y += n.height()
	}
	p.printf("</svg>\n")
	return p.Bytes()
}

// picture is one while it is drawn.
type picture struct{ bytes.Buffer }

func (p *picture) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// text draws a text that may be anybody's.
func (p *picture) text(x, y int, class, text string) {
	p.printf(`<text x="%d" y="%d" class="%s">%s</text>`+"\n", x, y, class, escaped(text))
}

func (p *picture) wire(class, path string, args ...any) {
	p.printf(`<path class="%s" d="%s"/>`+"\n", class, fmt.Sprintf(path, args...))
}

// host draws the host, by which guests reach the outside.
func (p *picture) host(width, top int) {
	const hostWidth = 150
	p.printf(`<rect class="outline" x="%d" y="12" width="%d" height="32" rx="16"/>`+"\n", width-margin-hostWidth, hostWidth)
	p.text(width-margin-hostWidth+22, 33, "", "host, outside")
	p.wire("wire", "M%d 44V%d", width-margin-12, top)
}

// network draws a network and its guests.
func (p *picture) network(n *network, top, width int) {
	p.text(margin, top+12, "small", n.label)
	for row, guests := range n.rows() {
		y := top + gap + row*(drop+boxHeight+gap)
		if n.bar {
			end := margin + trunk + (len(guests)-1)*(boxWidth+gap) + boxWidth/2
			p.wire("net", "M%d %dH%d", margin, y, end)
			if row > 0 {
				p.wire("net", "M%d %dV%d", margin, y-(drop+boxHeight+gap), y)
			}
		}
		if row == 0 && n.out {
			p.wire("wire", "M%d %dH%dV%d", margin+trunk+(len(guests)-1)*(boxWidth+gap)+boxWidth/2, y, width-margin-12, header-22)
		}
		for i := range guests {
			p.guest(&guests[i], margin+trunk+i*(boxWidth+gap), y)
		}
	}
}

// guest draws a guest that hangs from a network at y.
func (p *picture) guest(g *Guest, x, y int) {
	middle, wire := x+boxWidth/2, "wire"
	if g.Link != "" {
		wire += " slow"
	}
	p.printf("<g><title>%s</title>\n", escaped(g.title()))
	p.wire(wire, "M%d %dV%d", middle, y, y+drop)
	if g.VLANs != "" {
		p.text(middle+6, y+18, "small", short(g.VLANs, 14))
	}
	if g.Link != "" {
		p.text(middle+6, y+34, "small", short(g.Link, 14))
	}
	class := "box"
	if g.Up {
		class = "box up"
	}
	p.printf(`<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="8"/>`+"\n", class, x, y+drop, boxWidth, boxHeight)
	p.text(x+12, y+drop+22, "name", short(g.Name, 22))
	for i, line := range g.lines() {
		p.text(x+12, y+drop+42+16*i, "small", short(line, letters))
	}
	p.printf("</g>\n")
}

// lines are what is told in the box of a guest: three at most.
func (g *Guest) lines() (all []string) {
	if len(g.Addresses) > 0 {
		all = append(all, strings.Join(g.Addresses, " "))
	}
	if g.Device != "" {
		all = append(all, "TAP device "+g.Device)
	}
	if g.NAT {
		all = append(all, "NAT")
	}
	all = append(all, g.Forwards...)
	return all[:min(len(all), 3)]
}

// title is all of it.
func (g *Guest) title() string {
	parts := append([]string{g.Name}, g.Addresses...)
	for _, part := range append([]string{g.VLANs, g.Link}, g.Forwards...) {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}

// short is a text of so many letters at most.
func short(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// escaped is a text as XML has it. What XML cannot have is replaced.
func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes all
	return b.String()
}
