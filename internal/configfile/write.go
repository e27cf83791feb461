package configfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vringnet/vring/internal/daemon"
)

// Style is how much of a configuration is written.
type Style int

const (
	// Short leaves out what is by default.
	Short Style = iota
	// Commented has that in comments.
	Commented
	// Full writes all that can be written.
	Full
)

// Marshal returns a file of which Parse reads c. An error is that there is none: a text that is not in UTF-8, or guests that
// cannot be told apart.
func Marshal(c *daemon.Config, style Style) ([]byte, error) {
	w := &writer{config: c, defaults: defaults(), style: style}
	w.guests()
	w.keys(topKeys(), "")
	w.networks(networks(), "")
	if !utf8.Valid(w.out.Bytes()) {
		return nil, fmt.Errorf("the configuration has a text that is not in UTF-8: a file of YAML cannot have it")
	}
	return w.out.Bytes(), nil
}

// writer writes a file.
type writer struct {
	config, defaults *daemon.Config
	style            Style
	out              bytes.Buffer
}

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.out, format, args...) }

// networks writes those that the configuration has, with an indent.
func (w *writer) networks(all []network, indent string) {
	for _, n := range all {
		if n.has(w.config) {
			w.printf("%s%s:\n", indent, n.name)
			w.keys(n.keys, indent+"  ")
		}
	}
}

// keys writes the keys of a table with an indent.
func (w *writer) keys(keys []key, indent string) {
	for i := range keys {
		k := &keys[i]
		is, usual := k.value.write(w.config), k.value.write(w.defaults)
		isUsual, canBe := slices.Equal(is.items, usual.items), is.list || len(is.items) > 0
		switch {
		case canBe && !isUsual, w.style == Full && len(is.items) > 0:
			w.key(k, is, indent)
		case w.style != Short:
			w.comment(k, usual, indent)
		}
	}
}

// key writes a key with its value.
func (w *writer) key(k *key, value written, indent string) {
	if !value.list {
		w.printf("%s%s: %s\n", indent, k.name, value.items[0])
		return
	}
	if len(value.items) == 0 {
		w.printf("%s%s: []\n", indent, k.name)
		return
	}
	w.printf("%s%s:\n", indent, k.name)
	for _, item := range value.items {
		w.printf("%s  - %s\n", indent, item)
	}
}

// comment writes what a key is by default.
func (w *writer) comment(k *key, usual written, indent string) {
	text := presetOf(k)
	switch {
	case len(usual.items) > 0 && !usual.list:
		text = usual.items[0]
	case usual.list:
		text = "[]"
	}
	w.printf("%s# %s:%s\n", indent, k.name, strings.TrimRight(" "+text, " "))
}

// presetOf is what the value of a key is by default, where a configuration has nothing for it; "" if nothing is.
func presetOf(k *key) string {
	for _, f := range daemon.Fields() {
		if len(k.fields) > 0 && f.Path == k.fields[0] && f.Default != "" {
			return quoted(f.Default, false)
		}
	}
	return ""
}

// guests writes the list of guests: what each key has for the first that shares its network, then for the second, and so on; and behind
// them those that have their own.
func (w *writer) guests() {
	columns, most := guestColumns(w.config)
	w.printf("%s:\n", guestsKey)
	for i := range most {
		lead := "  - "
		for _, column := range columns {
			if i < len(column.items) {
				w.printf("%s%s: %s\n", lead, column.name, column.items[i])
				lead = "    "
			}
		}
	}
	for i := range w.config.Guests {
		w.ownGuest(&w.config.Guests[i])
	}
	if most+len(w.config.Guests) == 0 {
		w.printf("  []\n")
	}
}

// ownGuest writes a guest that has a network of its own.
func (w *writer) ownGuest(g *daemon.Guest) {
	own := &writer{config: ownConfig(*g), defaults: ownDefaults(), style: w.style}
	lead := "  - "
	for _, k := range ownKeys() {
		if items := k.value.write(own.config).items; len(items) > 0 {
			own.printf("%s%s: %s\n", lead, k.name, items[0])
			lead = "    "
		}
	}
	var all []network
	for _, n := range networks() {
		all = append(all, ownNetwork(n))
	}
	own.networks(all, "    ")
	_, _ = own.out.WriteTo(&w.out) // a buffer takes all
}

// ownDefaults is defaults for a guest that has a network of its own.
func ownDefaults() *daemon.Config {
	c := defaults()
	c.Guests = []daemon.Guest{{}}
	return c
}

// column is what a key has for each guest.
type column struct {
	name  string
	items []string
}

// guestColumns are those of all keys of guests, and how many guests there are.
func guestColumns(c *daemon.Config) (columns []column, guests int) {
	for _, k := range guestKeys() {
		items := k.value.write(c).items
		columns = append(columns, column{k.name, items})
		guests = max(guests, len(items))
	}
	return columns, guests
}

// plainText is text that YAML takes for text, whatever its version, or for a number that has the same form: words and paths, times
// with units, networks, numbers.
var plainText = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9/._-]*$|^([0-9]+[hms])+$|^[0-9.]+/[0-9]+$|^(0|[1-9][0-9]*)$`)

// otherWords are words that some version of YAML takes for something else than text.
var otherWords = regexp.MustCompile(`(?i)^(y|yes|n|no|true|false|on|off|null|nan|inf)$`)

// quoted is a text as YAML reads it; bare leaves it as it is.
func quoted(text string, bare bool) string {
	if bare || plainText.MatchString(text) && !otherWords.MatchString(text) {
		return text
	}
	if !utf8.ValidString(text) {
		return text // which Marshal refuses
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string always has a form
	return strings.TrimRight(b.String(), "\n")
}
