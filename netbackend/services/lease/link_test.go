package lease_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/lease"
)

// linked are Books of one link, each with an address of its own from .15 on, and a pool that they share.
func linked(n, pool int) (l *lease.Link, books []*lease.Book) {
	l = new(lease.Link)
	primary := netip.MustParseAddr("10.0.2.15")
	for range n {
		books = append(books, lease.New(lease.Config{
			Primary: primary, First: netip.MustParseAddr("10.0.2.200"), Count: pool, Link: l,
			User: func(netip.Addr) [6]byte { return [6]byte{} }, Heard: func([6]byte) int64 { return 1 << 60 }, // the host of the promised address answers
		}))
		primary = primary.Next()
	}
	return l, books
}

func linkedClient(i int) lease.Client {
	return lease.Client{MAC: [6]byte{2, 0, 0, 0, byte(i >> 8), byte(i)}}
}

// primaryOf gives the promised address of a Book to a host of its own, so that others get addresses of the pool.
func primaryOf(t *testing.T, b *lease.Book, i int) {
	_, outcome := b.Take(1, linkedClient(1000+i), netip.Addr{})
	require.Equal(t, lease.Given, outcome)
}

// pooled takes an address of the pool for another host of a Book.
func pooled(b *lease.Book, now int64, client int) (netip.Addr, lease.Outcome) {
	for range 3 { // the link is asked for the promised address first
		if a, outcome := b.Take(now, linkedClient(client), netip.MustParseAddr("10.0.2.200")); outcome == lease.Given || outcome == lease.None {
			return a, outcome
		}
	}
	return netip.Addr{}, lease.Wait
}

func TestNoTwoBooksOfALinkGiveTheSameAddress(t *testing.T) {
	_, books := linked(3, 60)
	seen := map[netip.Addr]bool{}
	for i := range 30 {
		for j, b := range books {
			if i == 0 {
				primaryOf(t, b, j)
			}
			a, outcome := pooled(b, 2, i*3+j)
			if outcome == lease.None {
				continue
			}
			require.Equal(t, lease.Given, outcome)
			require.False(t, seen[a], a)
			seen[a] = true
		}
	}
	require.Greater(t, len(seen), 40)
}

// A guest with many hosts leaves as many addresses to others as it has.
func TestABookLeavesAddressesToOthersOfItsLink(t *testing.T) {
	l, books := linked(2, 60)
	primaryOf(t, books[0], 0)
	primaryOf(t, books[1], 1)
	given := 0
	for i := range 200 {
		if _, outcome := pooled(books[0], 2, i); outcome == lease.Given {
			given++
		}
	}
	require.Equal(t, 30, given)
	_, outcome := pooled(books[1], 2, 500)
	require.Equal(t, lease.Given, outcome)

	l.Remove(books[0])
	for i := range 20 {
		_, outcome := pooled(books[1], 2, 501+i)
		require.Equal(t, lease.Given, outcome, "those of a guest that is gone are free")
	}
}
