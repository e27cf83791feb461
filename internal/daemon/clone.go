package daemon

import "reflect"

// clone returns a copy of a configuration that shares no memory with it: whoever changes one in place does not change the
// other. Functions are shared, and so is what unexported fields refer to. Both belong to the packages that they come from.
func clone[T any](v T) T {
	detach(reflect.ValueOf(&v).Elem())
	return v
}

// detach replaces all that v refers to by copies. v itself is one already.
func detach(v reflect.Value) {
	if !v.CanSet() {
		return // an unexported field
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			detach(v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			detach(v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			v.Set(detached(v.Elem()).Addr())
		}
	case reflect.Slice:
		detachList(v)
	case reflect.Map:
		detachMap(v)
	}
}

// detached returns a copy of v that can be changed.
func detached(v reflect.Value) reflect.Value {
	own := reflect.New(v.Type()).Elem()
	own.Set(v)
	detach(own)
	return own
}

func detachList(v reflect.Value) {
	if v.IsNil() {
		return
	}
	own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
	for i := range v.Len() {
		own.Index(i).Set(detached(v.Index(i)))
	}
	v.Set(own)
}

// detachMap leaves keys as they are: none refers to anything.
func detachMap(v reflect.Value) {
	if v.IsNil() {
		return
	}
	own := reflect.MakeMapWithSize(v.Type(), v.Len())
	for i := v.MapRange(); i.Next(); {
		own.SetMapIndex(i.Key(), detached(i.Value()))
	}
	v.Set(own)
}

// same reports whether two values of one type are the same setting. A list or map without elements is the same as none.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() && b.IsNil()
		}
		return same(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		return sameLists(a, b)
	case reflect.Map:
		return sameMaps(a, b)
	}
	return a.Equal(b)
}

func sameLists(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !same(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func sameMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := a.MapRange(); i.Next(); {
		other := b.MapIndex(i.Key())
		if !other.IsValid() || !same(i.Value(), other) {
			return false
		}
	}
	return true
}
