package counting

import (
	"iter"
	"reflect"
)

// Values are counters of one moment by their names. The zero value has none.
type Values struct {
	names []string
	words []uint64
}

// NewValues returns values by names; the slices are of the same length, and belong to the Values from now on.
func NewValues(names []string, words []uint64) Values { return Values{names, words} }

// ValuesOf returns those of a struct of counters, see [All].
func ValuesOf(counters any) (v Values) {
	walk(reflect.ValueOf(counters), func(name string, counter reflect.Value) {
		v.names, v.words = append(v.names, name), append(v.words, counter.Uint())
	})
	return v
}

// All returns names and values in their order.
func (v Values) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, n := range v.words {
			if !yield(v.names[i], n) {
				return
			}
		}
	}
}

// Fill sets the counters of a struct, of which counters is the address, to the values of their names. Those without a value
// stay as they are.
func (v Values) Fill(counters any) {
	byName := make(map[string]uint64, len(v.words))
	for name, n := range v.All() {
		byName[name] = n
	}
	walk(reflect.ValueOf(counters).Elem(), func(name string, counter reflect.Value) {
		if n, ok := byName[name]; ok {
			counter.SetUint(n)
		}
	})
}
