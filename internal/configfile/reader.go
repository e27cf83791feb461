package configfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/spelling"
)

// File is a file that was read. It does not change.
type File struct {
	Config daemon.Config // not checked; see daemon.Config.Check

	name   string
	lines  []string
	places map[string][]place // by the names of keys
	extras []map[string]Said  // of Config.Guests, of a Language
}

// Groups returns the number of a group by its name or number.
type Groups func(text string) (int, error)

// Parse reads the text of a file, which messages call name. The error holds all that is wrong, as Faults. groups is asked for
// the group of sockets.
func Parse(name string, text []byte, groups Groups) (*File, error) {
	return (*Language)(nil).Parse(name, text, groups)
}

// Parse is Parse for a file in the language. That of nil is this package's own.
func (l *Language) Parse(name string, text []byte, groups Groups) (*File, error) {
	r, body, err := open(name, text, groups, fileBounds())
	if err != nil {
		return nil, err
	}
	r.language = l
	r.readFile(body)
	if r.errs != nil {
		slices.SortStableFunc(r.errs.Errors, inOrder)
		return nil, r.errs
	}
	return r.File, nil
}

// open returns a reader for a text, and its document, nil if there is none.
func open(name string, text []byte, groups Groups, b bounds) (*reader, ast.Node, error) {
	f := &File{Config: *base(), name: name, places: map[string][]place{}}
	if why := b.checkText(text); why != "" {
		return nil, nil, &Fault{File: name, Message: why}
	}
	f.lines = strings.Split(string(text), "\n")
	body, err := f.body(string(text), b)
	return &reader{File: f, groups: groups}, body, err
}

// body returns the one document of a text, nil if there is none.
func (f *File) body(text string, b bounds) (ast.Node, error) {
	tokens := lexer.Tokenize(text)
	if t, why := b.checkTokens(tokens); t != nil {
		return nil, f.fault(placeOf(t), why)
	}
	docs, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // which are told with all that is wrong
	if syntax := new(yaml.SyntaxError); errors.As(err, &syntax) {
		return nil, f.fault(placeOf(syntax.Token), syntax.Message)
	}
	if err != nil {
		return nil, &Fault{File: f.name, Message: err.Error()}
	}
	switch len(docs.Docs) {
	case 0:
		return nil, nil
	case 1:
		return docs.Docs[0].Body, nil
	}
	return nil, f.fault(placeOf(docs.Docs[1].Start), "the file has more than one document; want one")
}

// placeOf is where a token is.
func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{line: t.Position.Line, column: t.Position.Column}
}

// reader reads a file into its configuration.
type reader struct {
	*File
	groups   Groups
	language *Language // nil for this package's own
	errs     *multierror.Error
}

// faultf notes that something is wrong at a node.
func (r *reader) faultf(n ast.Node, format string, args ...any) {
	r.errs = multierror.Append(r.errs, r.fault(placeOf(beginOf(n)), fmt.Sprintf(format, args...)))
}

// beginOf is the first token of a node. That of a mapping is its first key, not the colon.
func beginOf(n ast.Node) *token.Token {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return beginOf(n.Values[0])
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// wrong notes why a value cannot be read.
func (r *reader) wrong(k *key, n ast.Node, text string, err error) {
	if want := wantError(""); errors.As(err, &want) {
		r.faultf(n, "%s %q: %v", k.name, text, want)
		return
	}
	r.faultf(n, "%s", spell(err))
}

// note remembers where a key, or a value of it, is said.
func (r *reader) note(k *key, n ast.Node, text string) {
	at := placeOf(beginOf(n))
	at.text = text
	r.places[k.name] = append(r.places[k.name], at)
}

// text returns the text of a value.
func (r *reader) text(k *key, n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		text = n.GetToken().Value
	case *ast.NullNode:
		if n.GetToken().Type == token.NullType && n.GetToken().Value != "" { // a word such as null, which may be a value
			text = n.GetToken().Value
		}
	default:
		r.faultf(n, "%s: want one value, not a list or a mapping", k.name)
		return "", false
	}
	switch {
	case text == "":
		r.faultf(n, "%s: the value is empty; leave the key out, or give it a value", k.name)
	case strings.ContainsRune(text, 0):
		r.faultf(n, "%s: the value has a character of value 0", k.name)
	default:
		r.note(k, n, text)
		return text, true
	}
	return "", false
}

// items returns the items of a list. One without a value is empty: that of a key below which all is commented out.
func (r *reader) items(k *key, n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.SequenceNode:
		return n.Values
	case *ast.NullNode:
		return nil
	}
	r.faultf(n, "%s: want a list: below it, one item in each line, as in \"- VALUE\"", k.name)
	return nil
}

// pairs returns the pairs of a mapping, nil if a node is none.
func (r *reader) pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// nameOf returns the name of a key, if it has one.
func nameOf(pair *ast.MappingValueNode) (name string, ok bool) {
	n, ok := pair.Key.(*ast.StringNode)
	if !ok {
		return "", false
	}
	return n.Value, true
}

// named returns the pairs of a mapping by their names. Others than those of known, and those that come twice, are faults. what is
// what the mapping belongs to.
func (r *reader) named(what string, n ast.Node, known []string) map[string]*ast.MappingValueNode {
	found := map[string]*ast.MappingValueNode{}
	if _, isNull := n.(*ast.NullNode); isNull || n == nil {
		return found
	}
	pairs := r.pairs(n)
	if pairs == nil {
		if m, isMapping := n.(*ast.MappingNode); !isMapping || m == nil {
			r.faultf(n, "%s: want keys with values, as in \"%s: ...\"", what, known[0])
		}
		return found
	}
	for _, pair := range pairs {
		if name, ok := r.isKnown(what, pair, known); ok {
			if first := found[name]; first != nil {
				r.faultf(pair, "%s is given twice, first in line %d", name, placeOf(beginOf(first)).line)
				continue
			}
			found[name] = pair
		}
	}
	return found
}

// isKnown returns the name of a pair that may be there.
func (r *reader) isKnown(what string, pair *ast.MappingValueNode, known []string) (name string, ok bool) {
	name, ok = nameOf(pair)
	if !ok {
		r.faultf(pair, "%s: want the name of a key", what)
		return "", false
	}
	for _, k := range known {
		if k == name {
			return name, true
		}
	}
	r.faultf(pair, "%s", unknown(what, name, known))
	return "", false
}

// unknown tells that there is no key of a name, and which was meant.
func unknown(what, name string, known []string) string {
	const most = 40
	short := []rune(name)
	short = short[:min(len(short), most)]
	text := fmt.Sprintf("%s has no key %q", what, string(short))
	names := keyNames()
	if near := spelling.Nearest(name, known); near != "" {
		return text + "; did you mean " + near + "?"
	}
	if right := names[name]; right != "" && right != name {
		return text + "; its name is " + right
	}
	if section := sectionOf(names[name]); section != "" {
		return text + "; " + name + " belongs below " + section + ":"
	}
	return text + "; keys are " + strings.Join(known, ", ")
}

// sectionOf is the first section that has a key, "" if none has.
func sectionOf(name string) string {
	sections := append([]network{{name: guestsKey, keys: append(guestKeys(), ownKeys()...)}}, networks()...)
	for _, s := range sections {
		if slices.ContainsFunc(s.keys, func(k key) bool { return k.name == name }) {
			return s.name
		}
	}
	return ""
}

// read reads the keys of a table that are there into c.
func (r *reader) read(keys []key, found map[string]*ast.MappingValueNode, c *daemon.Config) {
	for i := range keys {
		k := &keys[i]
		if pair := found[k.name]; pair != nil {
			r.note(k, pair, "")
			k.value.read(r, k, pair.Value, c)
		}
	}
}

// readFile reads the whole document.
func (r *reader) readFile(body ast.Node) {
	top := topKeys()
	known := []string{guestsKey}
	for _, k := range top {
		known = append(known, k.name)
	}
	for _, n := range networks() {
		known = append(known, n.name)
	}
	found := r.named("the file", body, known)
	r.refuse(found)
	r.read(top, found, &r.Config)
	shared := r.readNetworks(found)
	r.readGuests(found[guestsKey], shared)
}

// readNetworks reads what guests share, and returns where it is, nil for nowhere.
func (r *reader) readNetworks(found map[string]*ast.MappingValueNode) (last *ast.MappingValueNode) {
	count := 0
	for _, n := range networks() {
		if pair := found[n.name]; pair != nil {
			count, last = count+1, pair
			r.readNetwork(n, pair, &r.Config)
		}
	}
	if count > mostNetworks(found) {
		r.faultf(last, "guests share one of nat, tap, switch and stub, or nat and switch, not %d of them; one that is below a guest is that guest's own", count)
	}
	return last
}

// mostNetworks is how many networks there may be: guests can be behind NAT and on a switch.
func mostNetworks(found map[string]*ast.MappingValueNode) int {
	if found[natKey] != nil && found[switchKey] != nil {
		return 2
	}
	return 1
}

// readNetwork reads a network into c.
func (r *reader) readNetwork(n network, pair *ast.MappingValueNode, c *daemon.Config) {
	n.add(c)
	found := r.named(n.name, pair.Value, sortedNames(n.keys))
	r.read(n.keys, found, c)
	if n.name == stubKey && c.Stub.Mode != daemon.StubSource {
		r.checkStub(found)
	}
}

// checkStub refuses keys that do nothing in the mode of a stub.
func (r *reader) checkStub(found map[string]*ast.MappingValueNode) {
	for _, name := range []string{"size", "sizes", "rate"} {
		if pair := found[name]; pair != nil {
			r.faultf(pair, "%s needs mode: %s: only a source sends frames of its own", name, daemon.StubSource)
		}
	}
}

// readGuests reads the guests: each has a place where its front end is met, and a network of its own, or a part of that which guests share.
func (r *reader) readGuests(pair, shared *ast.MappingValueNode) {
	if pair == nil {
		switch {
		case r.errs != nil:
		case shared == nil:
			r.wantNetwork()
		default:
			r.errs = multierror.Append(r.errs, &Fault{File: r.name, Message: "want guests:, a list with the socket-path of each"})
		}
		return
	}
	items := r.items(&key{name: guestsKey}, pair.Value)
	if len(items) == 0 && r.errs == nil {
		r.faultf(pair, "guests: want one guest at least, as in \"- socket-path: /run/vring/vm0.sock\"")
	}
	sharing := 0
	for _, item := range items {
		found := r.named("a guest", item, append(guestNames(), r.language.names()...))
		if r.language != nil || r.hasOwn(found) {
			r.readOwn(item, found)
			continue
		}
		sharing++
		r.read(guestKeys(), found, &r.Config)
		r.checkSharing(item, found, len(items))
	}
	switch {
	case r.errs != nil:
	case sharing > 0 && shared == nil:
		r.wantNetwork()
	case sharing == 0 && shared != nil:
		r.faultf(shared, "no guest shares this network, since each has one of its own; leave it out")
	}
}

func (r *reader) wantNetwork() {
	const message = "want one of nat:, tap:, switch: and stub:, which the guests are connected to, beside guests: or below each guest"
	r.errs = multierror.Append(r.errs, &Fault{File: r.name, Message: message})
}

// guestNames are the keys that a guest may have.
func guestNames() (names []string) {
	for _, k := range guestKeys() {
		names = append(names, k.name)
	}
	return append(names, nameName, frontEndName, natKey, switchKey, stubKey)
}

// hasOwn reports whether a guest has a network of its own. A device is one, unless guests share a network of devices: then it is a part of that.
func (r *reader) hasOwn(found map[string]*ast.MappingValueNode) bool {
	device := found[tapKey]
	return found[natKey] != nil || found[switchKey] != nil || found[stubKey] != nil || device != nil && (r.Config.TAP == nil || r.pairs(device.Value) != nil)
}

// readOwn reads a guest that has a network of its own.
func (r *reader) readOwn(n ast.Node, found map[string]*ast.MappingValueNode) {
	c := ownConfig(daemon.Guest{})
	r.read(ownKeys(), found, c)
	r.readExtras(n, found, c)
	if found[socketName] == nil && r.language == nil {
		r.faultf(n, "a guest that has a network of its own has a socket-path")
	}
	if fd := found[fdName]; fd != nil {
		r.faultf(fd, "fd is for a guest without a network of its own; give it a socket-path")
	}
	count := 0
	for _, one := range networks() {
		pair := found[one.name]
		if pair == nil {
			continue
		}
		if count++; count > mostNetworks(found) {
			r.faultf(pair, "a guest is connected to one of nat, tap, switch and stub, or to nat and switch")
			continue
		}
		r.readOwnNetwork(ownNetwork(one), pair, c)
	}
	r.Config.Guests = append(r.Config.Guests, ownGuest(c))
}

// nameKeyOf is the key of a network of a guest's own whose value can stand for the whole network, nil for none.
func nameKeyOf(n network) *key {
	switch n.name {
	case tapKey:
		device := deviceKey()
		return &device
	case switchKey:
		return &switchKeys()[0]
	}
	return nil
}

// isText reports whether a value is one, and not a list, a mapping or nothing.
func (r *reader) isText(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return true
	}
	return false
}

// readOwnNetwork reads a network of a guest's own. That of a TAP device can be its name alone, and that of a switch the switch's.
func (r *reader) readOwnNetwork(n network, pair *ast.MappingValueNode, c *daemon.Config) {
	switch name := nameKeyOf(n); {
	case name != nil && r.isText(pair.Value):
		n.add(c)
		r.note(name, pair, "")
		name.value.read(r, &key{name: n.name}, pair.Value, c)
	default:
		r.readNetwork(n, pair, c)
	}
	if n.name == tapKey && len(c.TAP.Devices) == 0 {
		r.faultf(pair, "a guest that is connected to a TAP device has its name, as in \"tap: tap0\" or in the key device below tap:")
	}
}

// checkSharing tells what a guest lacks, or has too much, that shares its network.
func (r *reader) checkSharing(n ast.Node, found map[string]*ast.MappingValueNode, guests int) {
	path, fd, device := found[socketName], found[fdName], found[tapKey]
	if (path == nil) == (fd == nil) {
		r.faultf(n, "a guest has one of socket-path and fd")
	}
	if fd != nil && guests > 1 {
		r.faultf(fd, "fd is for one guest only; there are %d: give each a socket-path", guests)
	}
	if name := found[nameName]; name != nil {
		r.faultf(name, "name is for a guest that has a network of its own: others are called by what they have of that which they share")
	}
	if kind := found[frontEndName]; kind != nil {
		r.faultf(kind, "front-end of one guest is for a guest that has a network of its own; for those that share one write it beside guests:")
	}
	if r.Config.TAP != nil && device == nil {
		r.faultf(n, "a guest that is connected to a TAP device has the key tap, its name")
	}
}
