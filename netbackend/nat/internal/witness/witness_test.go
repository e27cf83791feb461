package witness

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

func addr(text string) ipaddr.Addr { return ipaddr.From(netip.MustParseAddr(text)) }

func numbered(i int) ipaddr.Addr { return ipaddr.From4([]byte{198, 18, byte(i >> 8), byte(i)}) }

// names returns the names of an address.
func (t *Table) names(now int64, a ipaddr.Addr) []string {
	var names Names
	return slices.Clone(names[:t.Names(now, &a, &names)])
}

func TestANameIsGoodUntilItsTime(t *testing.T) {
	w, a := New(), addr("192.0.2.1")
	require.False(t, w.Record(0, "one.example", a, 100))
	require.False(t, w.Record(0, "two.example", a, 50))
	require.Equal(t, []string{"two.example", "one.example"}, w.names(49, a))
	require.Equal(t, []string{"one.example"}, w.names(50, a))
	require.True(t, w.Holds(99, "one.example", &a))
	require.False(t, w.Holds(100, "one.example", &a))
	require.False(t, w.Holds(0, "three.example", &a))
	other := addr("192.0.2.2")
	require.Empty(t, w.names(0, other))
	require.False(t, w.Holds(0, "one.example", &other))
}

// An answer of a moment ago that lives longer is not undone by one that lives shorter: the guest may use either.
func TestALaterAnswerPutsOffTheEnd(t *testing.T) {
	w, a := New(), addr("2001:db8::1")
	w.Record(0, "example.org", a, 100)
	w.Record(1, "example.org", a, 50)
	require.True(t, w.Holds(99, "example.org", &a))
	w.Record(2, "example.org", a, 200)
	require.Equal(t, []string{"example.org"}, w.names(199, a))
	require.Equal(t, []ipaddr.Addr{a}, w.Addresses(199, "example.org"))
	require.Empty(t, w.Addresses(200, "example.org"))
}

func TestWhatWasAnsweredLongestAgoIsForgottenFirst(t *testing.T) {
	w := New()
	for i := range MaxAddresses {
		require.False(t, w.Record(0, "example.org", numbered(i), 100))
	}
	w.Record(0, "example.org", numbered(0), 100) // now the second one is the oldest
	require.True(t, w.Record(0, "example.org", addr("192.0.2.1"), 100))
	require.Equal(t, MaxAddresses, w.Len())
	require.Len(t, w.names(0, numbered(0)), 1)
	require.Empty(t, w.names(0, numbered(1)))
	require.False(t, w.Record(100, "example.org", addr("192.0.2.2"), 200), "what is over by then is no loss")
}

func TestAnAddressHasSoManyNames(t *testing.T) {
	w, a := New(), addr("192.0.2.1")
	for i := range MaxNames {
		require.False(t, w.Record(0, fmt.Sprintf("n%d.example", i), a, 100))
	}
	require.True(t, w.Record(0, "more.example", a, 100))
	require.Len(t, w.names(0, a), MaxNames)
	require.False(t, w.Holds(0, "n0.example", &a))
	require.True(t, w.Holds(0, "n1.example", &a))
	require.False(t, w.Record(100, "later.example", a, 200), "those of before are over")
	require.Equal(t, []string{"later.example"}, w.names(100, a))
}

func TestAFlowKeepsItsNameWhenAnswersAreForgotten(t *testing.T) {
	w, a := New(), addr("192.0.2.1")
	w.Record(0, "example.org", a, 100)
	w.Opened(7, "example.org")
	w.Forget()
	require.Zero(t, w.Len())
	require.Empty(t, w.names(0, a))
	require.Equal(t, "example.org", w.OpenedBy(7))
	w.Opened(7, "")
	require.Empty(t, w.OpenedBy(7))
}

func TestNobodyRemembersNothing(t *testing.T) {
	var w *Table
	a := addr("192.0.2.1")
	w.Record(0, "example.org", a, 100)
	w.Opened(1, "example.org")
	w.Forget()
	require.Empty(t, w.names(0, a))
	require.Empty(t, w.OpenedBy(1))
	require.False(t, w.Holds(0, "example.org", &a))
	require.Empty(t, w.Addresses(0, "example.org"))
	require.Zero(t, w.Len())
}

func TestToAskAllocatesNothing(t *testing.T) {
	w, a := New(), addr("192.0.2.1")
	w.Record(0, "example.org", a, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var names Names
		w.Names(0, &a, &names)
		w.Holds(0, "example.org", &a)
		w.OpenedBy(1)
	}))
}
