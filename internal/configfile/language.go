package configfile

import (
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/vringnet/vring/internal/daemon"
)

// Language is one of files that have all keys of this package's, and more below guests. Each guest has a network and a name of its own, and
// need not have a socket.
type Language struct {
	Title   string                   // of the schema
	Guest   []Extra                  // keys that a guest can have beside those of this package
	Refused map[string]string        // why a key beside guests cannot be there, by its name
	Socket  func(name string) string // the path of the socket of a guest that has none in the file
}

// Extra is a key whose value is a text, and can be a list of texts.
type Extra struct {
	Name, About string
	Values      []string // all that there are; none if it can be any text
	List        bool     // it can be a list
}

// Said is the value of an Extra.
type Said struct {
	Values []string // one, if it is no list
	List   bool
	place
}

// Extra returns what the file says of a key of the guest that is Config.Guests[i]. found reports whether it says anything.
func (f *File) Extra(i int, name string) (said Said, found bool) {
	said, found = f.extras[i][name]
	return said, found
}

// FaultAt is that something is wrong with what a file says.
func (f *File) FaultAt(said Said, message string) error { return f.fault(said.place, message) }

// names are those of the keys of guests.
func (l *Language) names() (names []string) {
	if l == nil {
		return nil
	}
	for _, e := range l.Guest {
		names = append(names, e.Name)
	}
	return names
}

// refuse tells of keys beside guests that cannot be there.
func (r *reader) refuse(found map[string]*ast.MappingValueNode) {
	if r.language == nil {
		return
	}
	for name, why := range r.language.Refused {
		if pair := found[name]; pair != nil {
			r.faultf(pair, "%s: %s", name, why)
		}
	}
	for _, n := range networks() {
		if pair := found[n.name]; pair != nil {
			r.faultf(pair, "%s: guests have networks of their own here; write it below each guest", n.name)
		}
	}
}

// readExtras reads what a guest has in the language, and gives it its socket.
func (r *reader) readExtras(n ast.Node, found map[string]*ast.MappingValueNode, c *daemon.Config) {
	if r.language == nil {
		return
	}
	said := map[string]Said{}
	for _, e := range r.language.Guest {
		if pair := found[e.Name]; pair != nil {
			said[e.Name] = r.readExtra(&e, pair)
		}
	}
	r.extras = append(r.extras, said)
	if c.Guests[0].Name == "" {
		r.faultf(n, "a guest has a name here")
		return
	}
	if !r.hasOwn(found) {
		r.faultf(n, "the guest %s has no network; write nat:, switch:, stub: or tap: below it", c.Guests[0].Name)
	}
	if found[socketName] == nil {
		c.Guests[0].SocketPath = r.language.Socket(c.Guests[0].Name)
	}
}

// readExtra reads the value of a key of the language.
func (r *reader) readExtra(e *Extra, pair *ast.MappingValueNode) (said Said) {
	said.place = placeOf(beginOf(pair.Value))
	k := &key{name: e.Name}
	items := []ast.Node{pair.Value}
	if list, isList := pair.Value.(*ast.SequenceNode); isList && e.List {
		items, said.List = list.Values, true
	}
	for _, item := range items {
		text, ok := r.text(k, item)
		if ok && len(e.Values) > 0 && !slices.Contains(e.Values, text) {
			r.wrong(k, item, text, wantError(oneOf(e.Values)))
		}
		said.Values = append(said.Values, text)
	}
	return said
}

func (l *Language) title() string {
	if l == nil {
		return "Configuration of vring serve"
	}
	return l.Title
}

// properties describe the keys of guests.
func (l *Language) properties() (all object) {
	for _, e := range l.Guest {
		value := form[string]{kinds: texts(), enum: e.Values}.schema()
		if e.List {
			value = object{{"oneOf", []object{value, listOf(plain[string]().schema())}}}
		}
		all = append(all, member{e.Name, append(object{{"description", e.About}}, value...)})
	}
	return all
}

// withoutRefused takes keys out of a description that cannot be there.
func (l *Language) withoutRefused(properties object) object {
	if l == nil {
		return properties
	}
	return slices.DeleteFunc(properties, func(m member) bool { return l.Refused[m.name] != "" })
}
