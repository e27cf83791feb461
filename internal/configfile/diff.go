package configfile

import (
	"cmp"
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
//
// A guest that has a network of its own is one value of guests: by its name, or else its socket. What differs in the network of one that both
// have has the name of the guest before that of the key, as in "vm1: forwards".
func Diff(before, after *daemon.Config) (all []Difference) {
	keys := append(guestKeys(), topKeys()...)
	differ := append(diffGuests(before, after), diffKeys("", keys, before, after)...)
	differ = append(differ, diffNetworks("", networks(), before, after)...)
	for i := range before.Guests {
		was := &before.Guests[i]
		j := slices.IndexFunc(after.Guests, func(g daemon.Guest) bool { return g.SocketPath == was.SocketPath })
		if j < 0 {
			continue
		}
		differ = append(differ, diffOwn(was, &after.Guests[j])...)
	}
	return differ
}

// diffOwn returns the keys in which a guest differs that has a network of its own.
func diffOwn(was, is *daemon.Guest) []Difference {
	before, after := ownConfig(*was), ownConfig(*is)
	var all []network
	for _, n := range networks() {
		all = append(all, ownNetwork(n))
	}
	of := called(was) + ": "
	return append(diffKeys(of, ownKeys(), before, after), diffNetworks(of, all, before, after)...)
}

// called is what a guest that has a network of its own is called in differences.
func called(g *daemon.Guest) string { return cmp.Or(g.Name, g.SocketPath) }

// diffGuests returns which guests that have a network of their own only one of the configurations has.
func diffGuests(before, after *daemon.Config) []Difference {
	missing := func(from, in *daemon.Config) (names []string) {
		for i := range from.Guests {
			g := &from.Guests[i]
			if !slices.ContainsFunc(in.Guests, func(other daemon.Guest) bool { return other.SocketPath == g.SocketPath }) {
				names = append(names, called(g))
			}
		}
		return names
	}
	d := Difference{Key: guestsKey, Removed: missing(before, after), Added: missing(after, before)}
	if len(d.Removed)+len(d.Added) == 0 {
		return nil
	}
	return []Difference{d}
}

// diffNetworks returns the keys of networks in which two configurations differ. If they have different networks, the name of each stands for
// all of its keys. of is what stands before their names.
func diffNetworks(of string, all []network, before, after *daemon.Config) (differ []Difference) {
	var others []Difference
	for _, n := range all {
		switch was, is := n.has(before), n.has(after); {
		case was && is:
			differ = append(differ, diffKeys(of, n.keys, before, after)...)
		case was:
			others = append(others, Difference{Key: of + n.name, Removed: []string{n.name}})
		case is:
			others = append(others, Difference{Key: of + n.name, Added: []string{n.name}})
		}
	}
	return append(differ, others...)
}

// diffKeys returns those keys of a table in which two configurations differ.
func diffKeys(of string, keys []key, before, after *daemon.Config) (differ []Difference) {
	for i := range keys {
		k := &keys[i]
		d := Difference{Key: of + k.name}
		was, is := valuesOf(k, before), valuesOf(k, after)
		d.Removed, d.Added = without(was, is), without(is, was)
		d.Moved = !slices.Equal(without(was, d.Removed), without(is, d.Added))
		if len(d.Removed)+len(d.Added) > 0 || d.Moved {
			differ = append(differ, d)
		}
	}
	return differ
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
