package multicast

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

var name = []byte("\x01a\x05local\x00")

// message is a query for an address and a pointer, which has a record of each kind and claims a name.
func message(flags, claims byte) []byte {
	m := []byte{0, 7, flags, 0, 0, 2, 0, 2, 0, claims, 0, 0}
	m = slices.Concat(m, name, []byte{0, 1, 0x80, 1}, []byte{0xc0, 12, 0, 12, 0, 1})
	m = slices.Concat(m, []byte{0xc0, 12, 0, 28, 0x80, 1, 0, 0, 0, 9, 0, 16, 0xfe, 0x80}, make([]byte, 14))
	m = slices.Concat(m, name, []byte{0, 28, 0x80, 1, 0, 0, 0, 9, 0, 16, 0xfd, 0x80}, make([]byte, 14))
	if claims > 0 {
		m = slices.Concat(m, name, []byte{0, 1, 0x80, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4})
	}
	return m
}

func TestOnlyQuestionsLeave(t *testing.T) {
	left, what := question(message(2, 0))
	require.Equal(t, Sent, what)
	require.Equal(t, slices.Concat([]byte{0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0}, name, []byte{0, 1, 0, 1}, []byte{0xc0, 12, 0, 12, 0, 1}), left)
	for flags, m := range map[byte][]byte{0: message(0, 1), 0x84: message(0x84, 0), 0x28: message(0x28, 0)} {
		_, what = question(m)
		require.Equal(t, Kept, what, "%x", flags)
	}
}

// Wherever a message is cut off, nothing behind it is read, and a response is not passed on.
func TestMessagesThatAreCutOffAreMalformed(t *testing.T) {
	whole := message(0, 0)
	questions, _ := question(slices.Clone(whole))
	for n := range len(whole) {
		m := slices.Clip(slices.Clone(whole[:n]))
		require.False(t, response(slices.Clone(m)), n)
		_, what := question(m)
		require.Equal(t, n >= len(questions), what == Sent, n)
	}
	require.True(t, response(whole))
}

func TestAddressesOfAnotherLinkAreHidden(t *testing.T) {
	m := message(0x84, 0)
	require.True(t, response(m))
	want := message(0x84, 0)
	at := 12 + len(name) + 4 + 6 + 2
	copy(want[at:], []byte{0xff, 0})
	require.Equal(t, want, m)
}

func TestGroupsAreKnownByAddressAndPort(t *testing.T) {
	for g := range groups {
		for _, is6 := range []bool{false, true} {
			to := g.Address(is6)
			require.True(t, to.IsMulticast())
			got, ok := Of(netip.AddrPortFrom(to, g.Port()))
			require.True(t, ok)
			require.Equal(t, g, got)
			_, ok = Of(netip.AddrPortFrom(to, g.Port()+1))
			require.False(t, ok)
			_, ok = Of(netip.AddrPortFrom((1 - g).Address(is6), g.Port()))
			require.False(t, ok)
		}
	}
}
