package configfile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/daemon"
)

// Fault is one thing that is wrong with a file. Whoever wrote it can write it otherwise.
type Fault struct {
	File         string
	Line, Column int    // from 1; 0 for what is said nowhere in the file
	Message      string // one line
	Source       string // the line of the file, "" if there is none
}

// Error is one line: FILE:LINE:COLUMN: what is wrong.
func (f *Fault) Error() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
}

// maxExcerpt bounds the characters of a line that Excerpt shows.
const maxExcerpt = 100

// Excerpt is the line of the file with a mark below the place, two lines; "" if there is none to show.
func (f *Fault) Excerpt() string {
	line := []rune(strings.ReplaceAll(f.Source, "\t", " "))
	if f.Line == 0 || f.Column > len(line) {
		return ""
	}
	column := f.Column - 1
	if from := column - maxExcerpt/2; from > 0 {
		line, column = line[from:], column-from
	}
	line = line[:min(len(line), maxExcerpt)]
	number := fmt.Sprintf("%d", f.Line)
	return fmt.Sprintf("%s | %s\n%s | %s^", number, string(line), strings.Repeat(" ", len(number)), strings.Repeat(" ", column))
}

// place is where something is said in the file.
type place struct {
	line, column int
	text         string // the value that is said there, "" for a key
}

// keyNames are the keys of the file by what messages call them: their own names, and those of options.
func keyNames() map[string]string {
	names := map[string]string{}
	for _, k := range allKeys() {
		names[k.name] = k.name
		for _, option := range k.options {
			names[option] = k.name
		}
	}
	return names
}

var longOption = regexp.MustCompile(`--([a-z][a-z0-9-]*[a-z0-9])`)

// spell returns what an error says in the words of the file: options by the names of their keys. Packages that read the forms of
// the command line call them as it does.
func spell(err error) string {
	names := keyNames()
	key := func(option string) string {
		if option == allowWord || option == denyWord {
			return option // which is a word of the file
		}
		if name, found := names[option]; found {
			return name
		}
		return "--" + option
	}
	text := err.Error()
	if fault := new(daemon.Fault); errors.As(err, &fault) {
		text = fault.Spell(func(o daemon.Option) string { return key(string(o)) })
	}
	text = longOption.ReplaceAllStringFunc(text, func(option string) string { return key(option[2:]) })
	return strings.ReplaceAll(text, "write -p ", "write ")
}

// Locate returns what is wrong with the configuration of a file as faults of the file. They are at the value that a message
// names, or at its key; or, if the file says nothing of that, at no line.
func (f *File) Locate(err error) error {
	var errs *multierror.Error
	for _, one := range Flatten(err) {
		errs = multierror.Append(errs, f.locate(one))
	}
	return errs.ErrorOrNil()
}

func (f *File) locate(err error) error {
	if fault := new(Fault); errors.As(err, &fault) {
		return fault
	}
	message := spell(err)
	if at, found := f.placeIn(message); found {
		return f.fault(at, message)
	}
	return &Fault{File: f.name, Message: message}
}

// placeIn returns the place that a message is about: of a value that it has, if possible.
func (f *File) placeIn(message string) (at place, found bool) {
	names := keyNames()
	for _, word := range strings.FieldsFunc(message, isBetweenWords) {
		places := f.places[names[word]]
		if len(places) == 0 {
			continue
		}
		at := places[0]
		if i := slices.IndexFunc(places, func(p place) bool { return p.text != "" && strings.Contains(message, p.text) }); i >= 0 {
			at = places[i]
		}
		return at, true
	}
	return f.placeOfValue(message)
}

// placeOfValue returns the place of the longest value that a message has.
func (f *File) placeOfValue(message string) (at place, found bool) {
	const least = 4 // a shorter one may be there by chance
	for _, places := range f.places {
		for _, p := range places {
			if len(p.text) >= max(least, len(at.text)+1) && strings.Contains(message, p.text) {
				at, found = p, true
			}
		}
	}
	return at, found
}

// isBetweenWords reports whether a character is in no name of a key.
func isBetweenWords(c rune) bool {
	return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
}

// fault is one at a place.
func (f *File) fault(at place, message string) *Fault {
	fault := &Fault{File: f.name, Line: at.line, Column: at.column, Message: message}
	if at.line > 0 && at.line <= len(f.lines) {
		fault.Source = strings.TrimRight(f.lines[at.line-1], "\r")
	}
	return fault
}

// inOrder orders faults as they are in the file.
func inOrder(a, b error) int {
	f, g := new(Fault), new(Fault)
	errors.As(a, &f)
	errors.As(b, &g)
	return cmp.Or(cmp.Compare(f.Line, g.Line), cmp.Compare(f.Column, g.Column))
}

// Flatten takes an error apart that consists of several, by multierror or by errors.Join: none for nil. One that says more about several
// stays whole.
func Flatten(err error) []error {
	if err == nil {
		return nil
	}
	var parts []error
	switch e := err.(type) {
	case interface{ WrappedErrors() []error }: // go-multierror
		parts = e.WrappedErrors()
	case interface{ Unwrap() []error }:
		parts = e.Unwrap()
	default:
		return []error{err}
	}
	var all []error
	for _, part := range parts {
		all = append(all, Flatten(part)...)
	}
	return all
}

// KeysOf returns the names of the keys that set fields, each once.
func KeysOf(fields []daemon.Field) (names []string) {
	for _, k := range allKeys() {
		sets := func(f daemon.Field) bool { return slices.Contains(k.fields, f.Path) }
		if slices.ContainsFunc(fields, sets) && !slices.Contains(names, k.name) {
			names = append(names, k.name)
		}
	}
	return names
}

// sortedNames are the names of keys, in order.
func sortedNames(keys []key) []string {
	names := map[string]bool{}
	for _, k := range keys {
		names[k.name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
