package counting

import "reflect"

// Source takes counters from their owner. It is used by one goroutine at a time.
type Source interface {
	// Names returns the counters' names, which do not change.
	Names() []string
	// Describe returns what is known of each counter, in the order of their names.
	Describe() []Description
	// Read sets words to the counters' values, in the order of their names, of which there must be as many. It allocates
	// nothing, unless take does; see [From].
	Read(words []uint64)
}

// From returns the counters of a struct that take returns whenever they are read; see [All] for the struct.
func From[C any](take func() C) Source {
	s := &structSource[C]{take: take}
	walk(reflect.ValueOf(&s.last).Elem(), func(name string, counter reflect.Value) {
		s.names, s.fields = append(s.names, name), append(s.fields, counter)
	})
	return s
}

// structSource reads a struct of type C.
type structSource[C any] struct {
	take   func() C
	last   C
	fields []reflect.Value // of last
	names  []string
}

// Names implements Source.
func (s *structSource[C]) Names() []string { return s.names }

// Describe implements Source.
func (s *structSource[C]) Describe() []Description { return Describe(s.last) }

// Read implements Source.
func (s *structSource[C]) Read(words []uint64) {
	s.last = s.take()
	for i, f := range s.fields {
		words[i] = f.Uint()
	}
}
