package flowtable

import (
	"fmt"
	"reflect"
	"sync/atomic"
)

// chunkSize is how many records are allocated at once. Chunks do not move.
const chunkSize = 256

// Slab has a T for each index of a table that it was asked to make one for. T holds no pointers, so that the garbage collector
// has nothing to scan. What belongs to an index is for its owner, unless T says otherwise.
type Slab[T any] struct {
	chunks []atomic.Pointer[[chunkSize]T]
}

// NewSlab returns an empty slab for the indices of t. Its memory comes with what is made in it, by chunks. A copy of it is the same
// slab.
func NewSlab[T any](t *Table) Slab[T] {
	if typ := reflect.TypeFor[T](); holdsPointers(typ) {
		panic(fmt.Sprintf("flowtable: %v holds pointers", typ))
	}
	return Slab[T]{chunks: make([]atomic.Pointer[[chunkSize]T], len(t.chunks))}
}

// holdsPointers reports whether values of a type hold pointers.
func holdsPointers(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			if holdsPointers(typ.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Array:
		return holdsPointers(typ.Elem())
	}
	return typ.Kind() > reflect.Complex128 // all that are simple come before it
}

// At returns what Make has made for an index.
func (s *Slab[T]) At(i uint32) *T { return &s.chunks[i/chunkSize].Load()[i%chunkSize] }

// Make makes the zero value for an index, in the place of what was there, and returns it. The owner of the index may call it, or
// who is about to be its owner; owners of others may do so at the same time.
func (s *Slab[T]) Make(i uint32) *T {
	at := &s.chunks[i/chunkSize]
	if at.Load() == nil {
		at.CompareAndSwap(nil, new([chunkSize]T)) // if somebody was faster, that chunk serves both
	}
	var zero T
	v := s.At(i)
	*v = zero
	return v
}
