package counting

import "reflect"

// Units of counters that count no things.
const (
	Bytes        = "bytes"
	Microseconds = "microseconds"
)

// Kinds of counters, beside those that just grow.
const (
	gauge = "gauge" // it goes down as well as up
	drop  = "drop"  // it counts what was dropped
)

// Description tells of one counter of a struct what its tags say:
//
//	counter:"sent_bytes"          its name
//	help:"Bytes of frames that …" what it counts, in a sentence
//	unit:"bytes"                  Bytes or Microseconds; none for things, of which help says what they are
//	kind:"gauge"                  it goes down as well as up; none for one that grows
//	kind:"drop"                   it grows by what is dropped, by someone who keeps no log of that (package netbackend/drops)
type Description struct {
	Name  string
	Help  string
	Unit  string
	Gauge bool
	Drop  bool
}

// Describe returns the descriptions of a struct of counters, in the order of [All].
func Describe(counters any) []Description { return describe(reflect.ValueOf(counters)) }

func describe(v reflect.Value) (all []Description) {
	if group, ok := v.Interface().(Group); ok {
		for name := range group.All() {
			all = append(all, Description{Name: name, Help: group.Help(name)})
		}
		return all
	}
	for field, value := range v.Fields() {
		if value.Kind() != reflect.Uint64 {
			all = append(all, describe(value)...)
			continue
		}
		tag := field.Tag
		all = append(all, Description{tag.Get(tagKey), tag.Get(helpKey), tag.Get(unitKey), tag.Get(kindKey) == gauge, tag.Get(kindKey) == drop})
	}
	return all
}
