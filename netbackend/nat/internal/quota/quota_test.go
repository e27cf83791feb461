package quota_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/quota"
)

// fill takes as much as s gets, and returns how much that is.
func fill(s *quota.Stake) (n int) {
	for s.Take() {
		n++
	}
	return n
}

func TestAQuotaLeavesSomethingForOneMoreGuest(t *testing.T) {
	q := quota.New(120, 60)
	var guests []*quota.Stake
	var got []int
	for range 6 {
		s := q.Stake()
		guests = append(guests, s)
		got = append(got, fill(s))
	}
	require.Equal(t, []int{60, 30, 15, 8, 4, 2}, got)
	require.False(t, guests[0].Take())
	for range 60 {
		guests[0].Give()
	}
	held, most := guests[0].Used()
	require.Equal(t, []int{0, 60}, []int{held, most})
	require.Equal(t, 31, fill(guests[0]), "what others hold is theirs")
}

func TestAGuestsShareOfAQuotaHasABound(t *testing.T) {
	s := quota.New(100, 4).Stake()
	require.Equal(t, 4, fill(s))
	s.Give()
	require.Equal(t, 1, fill(s))
}

func TestStakesMayBeUsedByManyThreads(t *testing.T) {
	q := quota.New(100, 50)
	var threads sync.WaitGroup
	for range 4 {
		s := q.Stake()
		threads.Go(func() {
			for range 1000 {
				if s.Take() {
					s.Give()
				}
			}
		})
	}
	threads.Wait()
	require.Equal(t, 50, fill(q.Stake()), "all was given back")
}
