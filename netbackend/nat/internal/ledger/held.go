package ledger

// held numbers values as long as somebody holds them, from 1 on, so that records without pointers can refer to them. The zero value
// is empty.
type held[T comparable] struct {
	numbers map[T]uint32
	slots   []slot[T] // that of number n is n-1
	free    []uint32
}

type slot[T comparable] struct {
	value   T
	holders int
}

// hold returns the number of a value, which is its own until release was called as often as hold.
func (h *held[T]) hold(value T) uint32 {
	n, is := h.numbers[value]
	if !is {
		n = h.number(value)
	}
	h.slots[n-1].holders++
	return n
}

// number gives a value a number.
func (h *held[T]) number(value T) (n uint32) {
	if h.numbers == nil {
		h.numbers = map[T]uint32{}
	}
	if last := len(h.free) - 1; last >= 0 {
		n, h.free = h.free[last], h.free[:last]
	} else {
		h.slots = append(h.slots, slot[T]{})
		n = uint32(len(h.slots))
	}
	h.slots[n-1].value = value
	h.numbers[value] = n
	return n
}

// release returns the value of a number that was held, and forgets it if nobody holds it any more.
func (h *held[T]) release(n uint32) T {
	s := &h.slots[n-1]
	value := s.value
	if s.holders--; s.holders == 0 {
		delete(h.numbers, value)
		*s = slot[T]{}
		h.free = append(h.free, n)
	}
	return value
}

// len returns how many values are held.
func (h *held[T]) len() int { return len(h.numbers) }
