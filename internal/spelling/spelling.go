package spelling

import (
	"slices"
	"strings"
)

// Nearest returns the one of names that is most like name, "" if none is. Of several that are, it is the first. A name that
// begins with name, of two letters or more, is near.
func Nearest(name string, names []string) (nearest string) {
	best := 1 + max(1, len(name)/3) // mistakes; more are no mistakes
	for _, n := range names {
		d := distance(name, n)
		if strings.HasPrefix(n, name) && len(name) > 1 {
			d = min(d, 1)
		}
		if d < best {
			best, nearest = d, n
		}
	}
	return nearest
}

// distance returns how many bytes must be added, removed or replaced, or neighbours swapped, to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // to make the first bytes of b of the first i of a
	for j := range row {
		row[j] = j
	}
	above := slices.Clone(row) // the same for one byte of a less, and so on
	for i := range len(a) {
		next := append(make([]int, 0, len(row)), i+1)
		for j := range len(b) {
			cost := row[j]
			if a[i] != b[j] {
				cost++
			}
			cost = min(cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cost = min(cost, above[j-1]+1)
			}
			next = append(next, cost)
		}
		above, row = row, next
	}
	return row[len(b)]
}
