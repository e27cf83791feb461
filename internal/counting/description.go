package counting

import "reflect"

// Units of counters that count no things.
const (
	Bytes        = "bytes"
	Microseconds = "microseconds"
)

// gauge is the kind of a counter that goes down as well as up.
const gauge = "gauge"

// Description tells of one counter of a struct what its tags say:
//
//	counter:"sent_bytes"          its name
//	help:"Bytes of frames that …" what it counts, in a sentence
//	unit:"bytes"                  Bytes or Microseconds; none for things, of which help says what they are
//	kind:"gauge"                  it goes down as well as up; none for one that grows
type Description struct {
	Name  string
	Help  string
	Unit  string
	Gauge bool
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
		all = append(all, Description{tag.Get(tagKey), tag.Get(helpKey), tag.Get(unitKey), tag.Get(kindKey) == gauge})
	}
	return all
}
