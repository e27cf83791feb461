package udp

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

func TestWaysHaveNumbersAsLongAsTheyAreUsed(t *testing.T) {
	var s ways
	list := []hostsock.Way{}
	for i := range 3000 {
		w := hostsock.Way{Local: ipaddr.Addr{0: 0x20, 14: byte(i >> 8), 15: byte(i)}, Link: 2}
		n, ok := s.take(w)
		require.True(t, ok)
		require.EqualValues(t, i+1, n)
		list = append(list, w)
	}
	for i, w := range list {
		require.Equal(t, w, s.at(uint16(i+1)))
		n, ok := s.take(w)
		require.True(t, ok)
		require.EqualValues(t, i+1, n, "a second record has the same")
	}
	s.give(7)
	require.Equal(t, list[6], s.at(7), "one record is left")
	s.give(7)
	n, ok := s.take(hostsock.Way{Scope: 9})
	require.True(t, ok)
	require.EqualValues(t, 7, n, "a number that nobody has is used again")
	require.Equal(t, hostsock.Way{Scope: 9}, s.at(7))

	n, ok = s.take(hostsock.Way{})
	require.True(t, ok)
	require.Zero(t, n, "what says nothing needs none")
	s.give(0)
	require.Zero(t, s.at(0))
}

func TestWaysAreBounded(t *testing.T) {
	var s ways
	taken := 0
	for i := range maxWays + 10 {
		if _, ok := s.take(hostsock.Way{Link: uint32(i + 1)}); ok {
			taken++
		}
	}
	require.Equal(t, maxWays-1, taken)
	_, ok := s.take(hostsock.Way{Link: 1})
	require.True(t, ok, "what is there already needs no room")
}

func TestAWayCostsAnAssociationNothing(t *testing.T) {
	require.LessOrEqual(t, reflect.TypeFor[association]().Size(), uintptr(32), "it stands where the compiler would leave two bytes unused")
}
