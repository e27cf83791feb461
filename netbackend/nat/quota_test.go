package nat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// fill takes as much as s gets, and returns how much that is.
func (s *stake) fill() (n int) {
	for s.take() {
		n++
	}
	return n
}

func TestAQuotaLeavesSomethingForOneMoreGuest(t *testing.T) {
	q := &quota{all: 120, one: 60}
	guests := make([]stake, 6)
	var got []int
	for i := range guests {
		guests[i].of = q
		got = append(got, guests[i].fill())
	}
	require.Equal(t, []int{60, 30, 15, 8, 4, 2}, got)
	require.False(t, guests[0].take())
	for range 60 {
		guests[0].give()
	}
	require.Equal(t, Usage{Name: "queries", Most: 60}, guests[0].usage("queries"))
	require.Equal(t, 31, guests[0].fill(), "what others hold is theirs")
}

func TestAGuestsShareOfAQuotaHasABound(t *testing.T) {
	s := stake{of: &quota{all: 100, one: 4}}
	require.Equal(t, 4, s.fill())
	s.give()
	require.Equal(t, 1, s.fill())
}
