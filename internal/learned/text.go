package learned

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Header is how what a book writes begins.
const Header = "# Learned by vring: rules that would have sufficed for what guests did.\n"

// MaxText is how many bytes of rules a text has at most, so that it is a configuration file still.
const MaxText = 96 << 10

// Text returns what was learned as a part of a configuration file, and whether there is anything new since the last call.
func (b *Book) Text(now time.Time) (text []byte, isNew bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	isNew, b.changed = b.changed, false
	var w writer
	w.header(now)
	owns := slices.Sorted(maps.Keys(b.networks))
	if len(owns) > 0 && owns[0] == "" {
		w.network("", b.networks[""])
		owns = owns[1:]
	}
	if len(owns) > 0 {
		w.line("guests:")
	}
	for _, own := range owns {
		w.line("  - socket-path: " + strconv.Quote(own))
		w.network("    ", b.networks[own])
	}
	if n := w.leftOut + b.foreign; n > 0 || b.lost > 0 {
		w.line(fmt.Sprintf("# What is not here: %d connections or names for which there was no room, and %d that were not seen.", n, b.lost))
	}
	return []byte(w.String()), isNew
}

// Renew lets Text say that there is something new: what it has returned last was not written.
func (b *Book) Renew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed = true
}

// Len returns how many rules were learned.
func (b *Book) Len() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, of := range b.networks {
		n += len(of.rules)
	}
	return n
}

// writer writes a text.
type writer struct {
	strings.Builder
	leftOut uint64
}

func (w *writer) line(text string) { w.WriteString(text + "\n") }

func (w *writer) header(now time.Time) {
	w.WriteString(Header)
	w.line("# Written " + timeText(now) + ". Read each rule before you use it: guests have chosen the names.")
	w.line("# To use them, put what is below into a file of vring serve, or give the options that follow each \"#\" to vring nat, with --restrict.")
}

// network writes what was learned of one network.
func (w *writer) network(indent string, n *network) {
	w.leftOut += n.leftOut
	rules, used := n.sortedRules(), map[string]bool{}
	w.line(indent + "nat:")
	w.line(indent + "  restrict: true")
	if len(rules) > 0 {
		w.line(indent + "  rules:")
	}
	for i := range rules {
		r := &rules[i]
		used[r.name] = true
		if w.Len() > MaxText {
			w.leftOut++
			continue
		}
		w.line(fmt.Sprintf("%s    - %s: %s # %s: %s", indent, strings.TrimPrefix(r.Option(), "--"), strconv.Quote(r.String()), r.ForShell(), r.use.text()))
	}
	names := slices.Sorted(maps.Keys(n.asked))
	names = slices.DeleteFunc(names, func(name string) bool { return used[name] })
	if len(names) == 0 {
		return
	}
	w.line(indent + "  # Asked for without a connection that followed. A rule that allows the name lets a guest ask for it:")
	for _, name := range names {
		if w.Len() > MaxText {
			w.leftOut++
			continue
		}
		w.line(fmt.Sprintf("%s  #   %s: %s", indent, name, n.asked[name].text()))
	}
}

// text says how often something was used, and when.
func (u *use) text() string {
	text := fmt.Sprintf("%d times, first %s, last %s", u.count, timeText(u.first), timeText(u.last))
	if u.note != "" {
		text += "; it was called " + u.note
	}
	return text
}

// order is what rules are sorted by.
func (r *learnedRule) order() string {
	return fmt.Sprintf("%s %s %d %05d", r.name, r.addr, r.proto, r.port)
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
