package configfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// form is how values of a type are written.
type form[T any] struct {
	parse func(string) (T, error)
	text  func(T) string // "" for one that is not set
	bare  bool           // it is written without quotes, as numbers and truth values are
	kinds []string       // types of JSON Schema
	enum  []string       // all values, if they are few
}

// wantError is what a value should look like. The reader puts the key and the value in front.
type wantError string

func (e wantError) Error() string { return "want " + string(e) }

// texts are of values that are text. YAML takes one that looks like a number for a number.
func texts() []string { return []string{"string", "integer"} }

// plain is text that is taken as it is.
func plain[T ~string]() form[T] {
	return form[T]{
		parse: func(text string) (T, error) { return T(text), nil },
		text:  func(v T) string { return string(v) },
		kinds: texts(),
	}
}

// choice is one of a few texts.
func choice[T any](values []string, parse func(string) (T, error), text func(T) string) form[T] {
	return form[T]{parse: parse, text: text, kinds: []string{"string"}, enum: values}
}

// named is one of a few texts, each of which is a value.
func named[T ~string](values ...T) form[T] {
	f := plain[T]()
	f.kinds = []string{"string"}
	for _, v := range values {
		f.enum = append(f.enum, string(v))
	}
	f.parse = func(text string) (T, error) {
		if !slices.Contains(f.enum, text) {
			return "", wantError(oneOf(f.enum))
		}
		return T(text), nil
	}
	return f
}

// stringer is text that parse reads and String writes.
func stringer[T fmt.Stringer](parse func(string) (T, error)) form[T] {
	return form[T]{parse: parse, text: func(v T) string { return v.String() }, kinds: texts()}
}

// truth is true or false.
func truth() form[bool] {
	return form[bool]{
		parse: func(text string) (bool, error) {
			if text != "true" && text != "false" {
				return false, wantError("true or false")
			}
			return text == "true", nil
		},
		text: strconv.FormatBool, bare: true, kinds: []string{"boolean"},
	}
}

// number is a whole number that is not negative, and fits T.
func number[T int | uint16 | uint64]() form[T] {
	return form[T]{
		parse: func(text string) (T, error) {
			n, err := strconv.ParseUint(text, 10, 63)
			if err != nil || uint64(T(n)) != n {
				return 0, wantError("a whole number")
			}
			return T(n), nil
		},
		text: func(v T) string { return strconv.FormatUint(uint64(v), 10) }, bare: true, kinds: []string{"integer"},
	}
}

// given is number, where 0 stands for a value that is not given.
func given[T int | uint16 | uint64](want string) form[T] {
	f := number[T]()
	parse, text := f.parse, f.text
	f.parse = func(s string) (T, error) {
		v, err := parse(s)
		if err != nil || v == 0 {
			return 0, wantError(want)
		}
		return v, nil
	}
	f.text = func(v T) string {
		if v == 0 {
			return ""
		}
		return text(v)
	}
	return f
}

// optional is the form of a pointer to what f writes; nil is not set.
func optional[T any](f form[T]) form[*T] {
	return form[*T]{
		parse: func(text string) (*T, error) {
			v, err := f.parse(text)
			return &v, err
		},
		text: func(v *T) string {
			if v == nil {
				return ""
			}
			return f.text(*v)
		},
		bare: f.bare, kinds: f.kinds, enum: f.enum,
	}
}

// oneOf lists values for a message: a, b or c.
func oneOf(values []string) string {
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}
