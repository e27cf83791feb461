package counting

import (
	"iter"
	"reflect"
	"strings"
	"unicode"
)

// Group is a field of several counters, which have names of their own.
type Group interface {
	All() iter.Seq2[string, uint64]
}

// one is the group of a field that is a counter itself.
type one struct {
	name string
	n    uint64
}

// All implements Group.
func (c one) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) { yield(c.name, c.n) }
}

// All returns the names and values of a struct of counters, in the struct's order. Its fields must be exported, and each an
// uint64 or a Group.
func All(counters any) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for field, value := range reflect.ValueOf(counters).Fields() {
			group, ok := value.Interface().(Group)
			if !ok {
				group = one{Name(field.Name), value.Uint()}
			}
			for name, n := range group.All() {
				if !yield(name, n) {
					return
				}
			}
		}
	}
}

// Name turns the name of a field such as TCPOutOfOrder into tcp_out_of_order.
func Name(field string) string {
	var b strings.Builder
	letters := []rune(field)
	for i, r := range letters {
		follows := i > 0 && unicode.IsLower(letters[i-1])
		leads := i > 0 && unicode.IsUpper(letters[i-1]) && i+1 < len(letters) && unicode.IsLower(letters[i+1])
		if unicode.IsUpper(r) && (follows || leads) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
