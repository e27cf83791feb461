package configfile

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/daemon"
)

// State is what was changed of a configuration while guests were served, beside what its file or its flags say.
type State struct {
	Changed   []ChangedKey
	Added     []daemon.Guest // guests with a network of their own
	Removed   []daemon.Guest
	LinksDown []string // guests whose link is down, by their names
}

// ChangedKey is a key that has another value than at the start.
type ChangedKey struct {
	Guest string // the socket of the guest whose own network has the key; "" for any other key
	Key   string

	key
	was, is *daemon.Config // have the value of the key, and all others by default
}

const (
	// stateVersion is that of the form of a state. One with another version is not read: what it says could mean something else.
	stateVersion = 1
	// maxState is how many bytes a state may have, and maxStateItems how many keys and items: a value of each key is there twice.
	maxState, maxStateItems = 4 * MaxFile, 4 * maxItems
)

func stateBounds() bounds { return bounds{maxState, maxStateItems} }

// Keys of a state.
const (
	versionName = "version"
	changedName = "changed"
	addedName   = "added"
	removedName = "removed"
	linksName   = "links-down"
	wholeName   = "whole"
	guestName   = "guest"
	keyName     = "key"
	wasName     = "was"
	isName      = "is"
)

// stateKeys are the keys that a state can have: those whose fields can all change while guests are served.
func stateKeys(keys []key) (live []key) {
	fields := map[string]daemon.Field{}
	for _, f := range daemon.Fields() {
		fields[f.Path] = f
	}
	for _, k := range keys {
		isFixed := func(path string) bool { return !fields[path].Live }
		if len(k.fields) > 0 && !slices.ContainsFunc(k.fields, isFixed) {
			live = append(live, k)
		}
	}
	return live
}

// liveKeys are the keys of a state that belong to no guest's own network, or to one.
func liveKeys(own bool) []key {
	if own {
		return append(stateKeys(ownKeys()), stateKeys(natKeys())...)
	}
	return append(append(stateKeys(guestKeys()), stateKeys(topKeys())...), stateKeys(natKeys())...)
}

// has reports whether a configuration has what the key belongs to.
func (k *key) has(c *daemon.Config) bool {
	return k.fields[0][:min(len(k.fields[0]), 4)] != "NAT." || c.NAT != nil
}

// StateOf returns in what now differs from base: in keys that can change while guests are served, in guests with a network of their own, and in
// links.
func StateOf(base, now *daemon.Config, linksDown []string) *State {
	s := &State{LinksDown: linksDown}
	s.compare("", liveKeys(false), base, now)
	for i := range base.Guests {
		was := &base.Guests[i]
		is := guestWith(now, was.SocketPath)
		if is == nil {
			s.Removed = append(s.Removed, *was)
			continue
		}
		s.compare(was.SocketPath, liveKeys(true), ownConfig(*was), ownConfig(*is))
	}
	for _, g := range now.Guests {
		if guestWith(base, g.SocketPath) == nil {
			s.Added = append(s.Added, g)
		}
	}
	return s
}

// compare adds keys whose values differ.
func (s *State) compare(guest string, keys []key, base, now *daemon.Config) {
	for _, k := range keys {
		if k.has(base) && k.has(now) && !sameValue(&k, base, now) {
			s.Changed = append(s.Changed, ChangedKey{guest, k.name, k, base, now})
		}
	}
}

func sameValue(k *key, a, b *daemon.Config) bool {
	return slices.Equal(k.value.write(a).items, k.value.write(b).items)
}

// guestWith returns the guest with a network of its own that has a socket, nil for none.
func guestWith(c *daemon.Config, socket string) *daemon.Guest {
	i := slices.IndexFunc(c.Guests, func(g daemon.Guest) bool { return g.SocketPath == socket })
	if i < 0 {
		return nil
	}
	return &c.Guests[i]
}

// Empty reports whether nothing was changed.
func (s *State) Empty() bool { return len(s.Changed)+len(s.Added)+len(s.Removed)+len(s.LinksDown) == 0 }

// Marshal returns a text of which ParseState reads the same state.
func (s *State) Marshal() ([]byte, error) {
	w := &writer{defaults: defaults(), style: Short}
	w.printf("# What was changed while vring ran, and is not in its file or its flags. vring keeps it here, and begins with it (--state).\n")
	w.printf("%s: %d\n", versionName, stateVersion)
	for i, c := range s.Changed {
		w.title(i, changedName)
		lead := "  - "
		if c.Guest != "" {
			w.printf("%s%s: %s\n", lead, guestName, quoted(c.Guest, false))
			lead = "    "
		}
		w.printf("%s%s: %s\n", lead, keyName, c.Key)
		w.key(&key{name: wasName}, c.value.write(c.was), "    ")
		w.key(&key{name: isName}, c.value.write(c.is), "    ")
	}
	for _, some := range []struct {
		name   string
		guests []daemon.Guest
	}{{addedName, s.Added}, {removedName, s.Removed}} {
		for i := range some.guests {
			w.title(i, some.name)
			w.ownGuest(&some.guests[i])
		}
	}
	for i, name := range s.LinksDown {
		w.title(i, linksName)
		w.printf("  - %s\n", quoted(name, false))
	}
	w.printf("%s: true\n", wholeName)
	text := w.out.Bytes()
	if why := stateBounds().checkText(text); why != "" {
		return nil, fmt.Errorf("what was changed cannot be written: %s", why)
	}
	return text, nil
}

// title writes the name of a list before its first item.
func (w *writer) title(i int, name string) {
	if i == 0 {
		w.printf("%s:\n", name)
	}
}

// ParseState reads the text of a state, which messages call name. The error holds all that is wrong, as Faults.
func ParseState(name string, text []byte) (*State, error) {
	r, body, err := open(name, text, nil, stateBounds())
	if err != nil {
		return nil, err
	}
	s := new(State)
	r.readState(body, s)
	if r.errs != nil {
		slices.SortStableFunc(r.errs.Errors, inOrder)
		return nil, r.errs
	}
	return s, nil
}

func (r *reader) readState(body ast.Node, s *State) {
	found := r.named("a state", body, []string{versionName, changedName, addedName, removedName, linksName, wholeName})
	if !r.isVersion(found[versionName]) {
		return
	}
	if whole := readPair(r, found[wholeName], truth()); whole == nil || !*whole {
		r.errs = multierror.Append(r.errs, &Fault{File: r.name, Message: "its end is missing: it is not whole"})
		return
	}
	for _, item := range r.itemsOf(found[changedName]) {
		r.readChanged(item, s)
	}
	s.Added, s.Removed = r.readStateGuests(found[addedName]), r.readStateGuests(found[removedName])
	for _, item := range r.itemsOf(found[linksName]) {
		if name, ok := readOne(r, &key{name: linksName}, item, plain[string]()); ok {
			s.LinksDown = append(s.LinksDown, name)
		}
	}
}

// isVersion reports whether a state is of the version that is read here.
func (r *reader) isVersion(pair *ast.MappingValueNode) bool {
	version := readPair(r, pair, number[int]())
	switch {
	case version == nil && r.errs == nil:
		r.errs = multierror.Append(r.errs, &Fault{File: r.name, Message: "it has no version: it is no state of vring"})
	case version == nil:
	case *version != stateVersion:
		r.errs = nil // another version has other keys
		r.faultf(pair, "version %d: this vring reads version %d; it was written by another one", *version, stateVersion)
	default:
		return true
	}
	return false
}

// readPair reads the value of a pair, nil for none.
func readPair[T any](r *reader, pair *ast.MappingValueNode, f form[T]) *T {
	if pair == nil {
		return nil
	}
	name, _ := nameOf(pair)
	v, ok := readOne(r, &key{name: name}, pair.Value, f)
	if !ok {
		return nil
	}
	return &v
}

// itemsOf are the items of the list of a pair, which may be nil.
func (r *reader) itemsOf(pair *ast.MappingValueNode) []ast.Node {
	if pair == nil {
		return nil
	}
	name, _ := nameOf(pair)
	return r.items(&key{name: name}, pair.Value)
}

// readChanged reads a key that has another value.
func (r *reader) readChanged(item ast.Node, s *State) {
	found := r.named("a change", item, []string{guestName, keyName, wasName, isName})
	for _, name := range []string{keyName, wasName, isName} {
		if found[name] == nil {
			r.faultf(item, "a change has no %s", name)
			return
		}
	}
	guest, name := readPair(r, found[guestName], plain[string]()), readPair(r, found[keyName], plain[string]())
	if name == nil || guest == nil && found[guestName] != nil {
		return
	}
	keys := liveKeys(guest != nil)
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == *name })
	if i < 0 {
		r.faultf(found[keyName], "%q is no key that can change while guests are served; those are %v", *name, namesOf(keys))
		return
	}
	c := ChangedKey{Key: *name, key: keys[i], was: defaults(), is: defaults()}
	if guest != nil {
		c.Guest = *guest
	}
	if slices.ContainsFunc(s.Changed, func(other ChangedKey) bool { return other.Guest == c.Guest && other.Key == c.Key }) {
		r.faultf(item, "%s is changed twice", c.Key)
		return
	}
	c.value.read(r, &c.key, found[wasName].Value, c.was)
	c.value.read(r, &c.key, found[isName].Value, c.is)
	s.Changed = append(s.Changed, c)
}

// namesOf are the names of keys, in their order.
func namesOf(keys []key) (names []string) {
	for _, k := range keys {
		names = append(names, k.name)
	}
	return names
}

// readStateGuests reads guests that have a network of their own.
func (r *reader) readStateGuests(pair *ast.MappingValueNode) []daemon.Guest {
	r.Config.Guests = nil
	for _, item := range r.itemsOf(pair) {
		found := r.named("a guest", item, guestNames())
		if !r.hasOwn(found) {
			r.faultf(item, "the guest has no network of its own")
			continue
		}
		r.readOwn(item, found)
	}
	for i, g := range r.Config.Guests {
		if guestWith(&r.Config, g.SocketPath) != &r.Config.Guests[i] {
			r.faultf(pair, "the guest with %s is there twice", g.SocketPath)
		}
	}
	return r.Config.Guests
}

// Dropped is a part of a state that does not count any more, since the file or the flags were changed meanwhile.
type Dropped struct {
	Difference
	Why string
}

// Apply returns the configuration with which a process begins whose file or flags say base, and guests whose link is down. What was changed counts
// where base still says what it was changed from; otherwise base does, and dropped tells what does not count. What base says by now is not dropped.
func (s *State) Apply(base *daemon.Config) (now daemon.Config, dropped []Dropped) {
	now = base.Clone()
	for i := range s.Changed {
		if why := s.Changed[i].apply(&now); why != "" {
			dropped = append(dropped, Dropped{s.Changed[i].difference(&now), why})
		}
	}
	for i := range s.Removed {
		g := &s.Removed[i]
		switch is := guestWith(&now, g.SocketPath); {
		case is == nil:
		case sameGuest(is, g):
			now.Guests = slices.DeleteFunc(now.Guests, func(other daemon.Guest) bool { return other.SocketPath == g.SocketPath })
		default:
			dropped = append(dropped, Dropped{Difference{Key: guestsKey, Removed: []string{called(g)}}, "the guest is another one by now"})
		}
	}
	for _, g := range s.Added {
		switch is := guestWith(base, g.SocketPath); {
		case is == nil && !slices.Contains(now.FrontEnds.SocketPaths, g.SocketPath):
			now.Guests = append(now.Guests, g)
		case is == nil || !sameGuest(is, &g):
			dropped = append(dropped, Dropped{Difference{Key: guestsKey, Added: []string{called(&g)}}, "there is another guest with its socket by now"})
		}
	}
	return now.Clone(), dropped
}

// sameGuest reports whether two guests are the same in all that a file says.
func sameGuest(a, b *daemon.Guest) bool {
	return len(Diff(&daemon.Config{Guests: []daemon.Guest{*a}}, &daemon.Config{Guests: []daemon.Guest{*b}})) == 0 && a.Name == b.Name
}

// apply changes the key, or returns why it does not.
func (c *ChangedKey) apply(now *daemon.Config) (why string) {
	if c.Guest == "" {
		return c.applyTo(now)
	}
	g := guestWith(now, c.Guest)
	if g == nil {
		return "the guest is not there any more"
	}
	in := ownConfig(*g)
	why = c.applyTo(in)
	*g = ownGuest(in)
	return why
}

// applyTo is apply in a configuration that has the key.
func (c *ChangedKey) applyTo(in *daemon.Config) (why string) {
	switch {
	case !c.has(in):
		return "there is no network behind NAT any more"
	case sameValue(&c.key, in, c.is):
		return ""
	case !sameValue(&c.key, in, c.was):
		return "it is not any more what it was changed from"
	}
	for _, path := range c.fields {
		daemon.CopyField(in, c.is, path)
	}
	return ""
}

// difference tells what was changed. now is what the guest is called in, if it is still there.
func (c *ChangedKey) difference(now *daemon.Config) Difference {
	of := ""
	if c.Guest != "" {
		of = c.Guest + ": "
		if g := guestWith(now, c.Guest); g != nil {
			of = called(g) + ": "
		}
	}
	all := diffKeys(of, []key{c.key}, c.was, c.is)
	if len(all) == 0 {
		return Difference{Key: of + c.Key}
	}
	return all[0]
}
