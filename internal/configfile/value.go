package configfile

import (
	"github.com/goccy/go-yaml/ast"

	"github.com/vringnet/vring/internal/daemon"
)

// key is a key of the file.
type key struct {
	name    string
	fields  []string // of daemon.Fields, by their paths, that it sets
	options []string // names of options that messages call it by; its own name is one of them in any case
	about   string   // what the schema says of it
	value   value
}

// value is how what belongs to a key is read and written.
type value interface {
	// read sets in c what a node says, and tells r what is wrong with it.
	read(r *reader, k *key, n ast.Node, c *daemon.Config)
	// write returns what c has, nothing for what it has not.
	write(c *daemon.Config) written
	// schema describes the value.
	schema() object
}

// written is the value of a key as it is in the file.
type written struct {
	list  bool
	items []string // each one line of YAML
}

// scalar is one value.
type scalar[T any] struct {
	form[T]
	at func(*daemon.Config) *T
}

func (s scalar[T]) read(r *reader, k *key, n ast.Node, c *daemon.Config) {
	if v, ok := readOne(r, k, n, s.form); ok {
		*s.at(c) = v
	}
}

// readOne reads a value that is written in a form.
func readOne[T any](r *reader, k *key, n ast.Node, f form[T]) (v T, ok bool) {
	text, ok := r.text(k, n)
	if !ok {
		return v, false
	}
	v, err := f.parse(text)
	if err != nil {
		r.wrong(k, n, text, err)
	}
	return v, err == nil
}

func (s scalar[T]) write(c *daemon.Config) (w written) {
	if text := s.text(*s.at(c)); text != "" {
		w.items = []string{quoted(text, s.bare)}
	}
	return w
}

func (s scalar[T]) schema() object { return s.form.schema() }

// list is a list of values.
type list[T any] struct {
	form[T]
	at func(*daemon.Config) *[]T
}

func (l list[T]) read(r *reader, k *key, n ast.Node, c *daemon.Config) {
	all := l.at(c)
	for _, item := range r.items(k, n) {
		if v, ok := readOne(r, k, item, l.form); ok {
			*all = append(*all, v)
		}
	}
}

func (l list[T]) write(c *daemon.Config) written {
	w := written{list: true}
	for _, v := range *l.at(c) {
		w.items = append(w.items, quoted(l.text(v), l.bare))
	}
	return w
}

func (l list[T]) schema() object { return listOf(l.form.schema()) }

// custom is a value of a kind of its own.
type custom struct {
	onRead  func(r *reader, k *key, n ast.Node, c *daemon.Config)
	onWrite func(c *daemon.Config) written
	form    object
}

func (v custom) read(r *reader, k *key, n ast.Node, c *daemon.Config) { v.onRead(r, k, n, c) }
func (v custom) write(c *daemon.Config) written                       { return v.onWrite(c) }
func (v custom) schema() object                                       { return v.form }
