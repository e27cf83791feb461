package counting

import (
	"fmt"
	"iter"
	"reflect"
)

// Keys of the tags of a counter: its name, and what is known of it; see Description.
const (
	tagKey  = "counter"
	helpKey = "help"
	unitKey = "unit"
	kindKey = "kind"
)

// Group is an array of counters that names them itself.
type Group interface {
	// All returns the names and values of all of them, in the array's order.
	All() iter.Seq2[string, uint64]
	// Help returns what the counter of a name counts.
	Help(name string) string
}

// All returns the names and values of a struct of counters, in the struct's order. Its fields must be exported, and each a
// uint64 with a name, a Group, or a struct of the same kind.
func All(counters any) iter.Seq2[string, uint64] { return ValuesOf(counters).All() }

// walk calls visit for each counter in v with its name. A counter without a name is a mistake in its struct.
func walk(v reflect.Value, visit func(name string, counter reflect.Value)) {
	if group, ok := v.Interface().(Group); ok {
		walkGroup(v, group, visit)
		return
	}
	for field, value := range v.Fields() {
		if value.Kind() != reflect.Uint64 {
			walk(value, visit)
			continue
		}
		name := field.Tag.Get(tagKey)
		if name == "" {
			panic(fmt.Sprintf("counter %s of %s has no name", field.Name, v.Type()))
		}
		visit(name, value)
	}
}

// NamesOf returns the names of a struct of counters, of which counters is the address, by the addresses of the counters.
func NamesOf(counters any) map[*uint64]string {
	names := map[*uint64]string{}
	walk(reflect.ValueOf(counters).Elem(), func(name string, counter reflect.Value) {
		names[counter.Addr().Interface().(*uint64)] = name
	})
	return names
}

func walkGroup(v reflect.Value, group Group, visit func(name string, counter reflect.Value)) {
	i := 0
	for name := range group.All() {
		visit(name, v.Index(i))
		i++
	}
}
