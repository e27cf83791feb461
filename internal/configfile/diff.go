package configfile

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/vringnet/vring/internal/daemon"
)

// Difference is a key of which two configurations have different values.
type Difference struct {
	Key string
	// Removed are the values that only the first one has, and Added those that only the second one has, in their order there and
	// as they are written without quotes. A value that comes several times counts as often.
	Removed, Added []string
	// Moved is that the values that both have stand in another order.
	Moved bool
}

// Diff returns the keys in which two configurations differ, in the order of a file. If they have different networks, the name of each
// stands for all of its keys.
func Diff(before, after *daemon.Config) (all []Difference) {
	keys := append(guestKeys(), topKeys()...)
	for _, n := range networks() {
		switch was, is := n.has(before), n.has(after); {
		case was && is:
			keys = append(keys, n.keys...)
		case was:
			all = append(all, Difference{Key: n.name, Removed: []string{n.name}})
		case is:
			all = append(all, Difference{Key: n.name, Added: []string{n.name}})
		}
	}
	var differ []Difference
	for i := range keys {
		k := &keys[i]
		d := Difference{Key: k.name}
		was, is := valuesOf(k, before), valuesOf(k, after)
		d.Removed, d.Added = without(was, is), without(is, was)
		d.Moved = !slices.Equal(without(was, d.Removed), without(is, d.Added))
		if len(d.Removed)+len(d.Added) > 0 || d.Moved {
			differ = append(differ, d)
		}
	}
	return append(differ, all...)
}

// Undone returns what of the changes from one configuration to a second one goes back with a third one that takes its place.
func Undone(first, second, third *daemon.Config) (all []Difference) {
	back := Diff(second, third)
	for _, made := range Diff(first, second) {
		i := slices.IndexFunc(back, func(d Difference) bool { return d.Key == made.Key })
		if i < 0 {
			continue
		}
		undone := Difference{Key: made.Key, Removed: common(made.Removed, back[i].Added), Added: common(made.Added, back[i].Removed)}
		undone.Moved = made.Moved && back[i].Moved
		if len(undone.Removed)+len(undone.Added) > 0 || undone.Moved {
			all = append(all, undone)
		}
	}
	return all
}

// valuesOf are the values of a key, without quotes.
func valuesOf(k *key, c *daemon.Config) (values []string) {
	for _, item := range k.value.write(c).items {
		values = append(values, unquoted(item))
	}
	return values
}

// unquoted is a value of a key, or a rule, without the quotes that YAML needs.
func unquoted(item string) string {
	begin := strings.IndexByte(item, '"')
	if begin < 0 {
		return item
	}
	var text string
	if json.Unmarshal([]byte(item[begin:]), &text) != nil {
		return item
	}
	return item[:begin] + text
}

// without returns what all has beyond less.
func without(all, less []string) (rest []string) {
	counts := countOf(less)
	for _, v := range all {
		if counts[v] > 0 {
			counts[v]--
			continue
		}
		rest = append(rest, v)
	}
	return rest
}

// common returns what both have, in the order of a.
func common(a, b []string) []string { return without(a, without(a, b)) }

// countOf tells how often each value comes.
func countOf(values []string) map[string]int {
	counts := map[string]int{}
	for _, v := range values {
		counts[v]++
	}
	return counts
}
