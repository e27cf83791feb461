package seqnum

// Value is a sequence number. Two may be compared by == and in no other way but by methods, which are right for numbers that are less
// than 2^31 apart. The zero Value is the number 0.
type Value struct{ n uint32 }

// From returns the number that a header has.
func From(n uint32) Value { return Value{n} }

// Uint32 returns the number as a header has it.
func (v Value) Uint32() uint32 { return v.n }

// Before reports whether v comes before w.
func (v Value) Before(w Value) bool { return int32(v.n-w.n) < 0 }

// After reports whether v comes after w.
func (v Value) After(w Value) bool { return int32(v.n-w.n) > 0 }

// AtMost reports whether v is w, or comes before it.
func (v Value) AtMost(w Value) bool { return int32(v.n-w.n) <= 0 }

// AtLeast reports whether v is w, or comes after it.
func (v Value) AtLeast(w Value) bool { return int32(v.n-w.n) >= 0 }

// Plus returns the number that comes n bytes after v.
func (v Value) Plus(n uint32) Value { return Value{v.n + n} }

// Minus returns the number that comes n bytes before v.
func (v Value) Minus(n uint32) Value { return Value{v.n - n} }

// Since returns how many bytes after w v comes. Of one that comes before w, that is nearly 2^32.
func (v Value) Since(w Value) uint32 { return v.n - w.n }

// Range is what lies between two sequence numbers: First, and all up to End, which is not part of it. The zero Range is empty.
type Range struct{ First, End Value }

// IsEmpty reports whether nothing lies in r.
func (r Range) IsEmpty() bool { return r.First == r.End }

// Len returns how many bytes lie in r.
func (r Range) Len() uint32 { return r.End.Since(r.First) }
