package limits

// MostTold is how many things of a kind the user is told of, each by itself.
const MostTold = 64

// Told is what the user was told of, so that nothing is told twice, and no guest can fill the log. The zero Told is empty.
type Told[K comparable] struct{ seen map[K]bool }

// IsNew reports whether the user is to be told of something, and takes note that this is done: it was not told before, and there is room for
// another one.
func (t *Told[K]) IsNew(what K) bool {
	if t.seen[what] || len(t.seen) >= MostTold {
		return false
	}
	if t.seen == nil {
		t.seen = map[K]bool{}
	}
	t.seen[what] = true
	return true
}

// Forget lets the user be told of all again.
func (t *Told[K]) Forget() { clear(t.seen) }
