package listeners

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// setOf is a set of a queue pair that listens, with forwards.
func setOf(forwards ...*Listener) *Set {
	for i, l := range forwards {
		l.Index = uint32(i)
	}
	e := new(Set)
	e.SetUp(&shard.Shard{Listening: true}, forwards)
	return e
}

// waiting are those that are ready, in their order.
func waiting(e *Set) (all []*Listener) {
	for i := range e.Waiting() {
		all = append(all, e.Ready(i))
	}
	return all
}

func TestListenersHaveTheirTurnsInOrder(t *testing.T) {
	a, b, c := new(Listener), new(Listener), new(Listener)
	e := setOf(a, b, c)
	e.OnEvent(b, false)
	e.OnEvent(a, true)
	e.OnEvent(b, false)
	e.OnEvent(nil, true)
	require.Equal(t, []*Listener{b, a}, waiting(e), "each once")
	require.True(t, a.SockError)
	require.False(t, b.SockError)
	e.OnEvent(a, false)
	require.True(t, a.SockError, "until it was told")

	e.OnEvent(c, false)
	a.Ready = false // it has nothing more
	e.Requeue(2)
	require.Equal(t, []*Listener{c, b}, waiting(e), "who has more is behind the others")
	e.OnEvent(a, false)
	require.Equal(t, []*Listener{c, b, a}, waiting(e))
}

func TestAPortThatIsShutHasNoTurn(t *testing.T) {
	l := &Listener{ShutNow: new(atomic.Bool)}
	e := setOf(l)
	l.ShutNow.Store(true)
	require.True(t, l.IsShut())
	e.OnEvent(l, false)
	require.Empty(t, waiting(e))
	l.ShutNow.Store(false)
	e.OnEvent(l, false)
	require.Equal(t, []*Listener{l}, waiting(e))
}

func TestAForwardThatIsOverIsCalledNoMore(t *testing.T) {
	a, b := new(Listener), new(Listener)
	e := setOf(a, b)
	e.OnEvent(a, false)
	e.OnEvent(b, false)
	e.SetForward(0, nil)
	require.Equal(t, []*Listener{b}, waiting(e))
	require.Nil(t, e.OfForward(0))
	require.Nil(t, e.OfForward(7))
	far := &Listener{Index: 4}
	e.SetForward(4, far)
	require.Same(t, far, e.OfForward(4))
	require.Nil(t, e.OfForward(3))
	var all []*Listener
	for l := range e.Forwards() {
		all = append(all, l)
	}
	require.Equal(t, []*Listener{b, far}, all)
	e.ForgetForwards()
	require.Empty(t, waiting(e))
	require.Nil(t, e.OfForward(1))
}

func TestRecordsOfMappingsAreUsedAgain(t *testing.T) {
	e := setOf(new(Listener))
	first, second := e.AllocSlot(), e.AllocSlot()
	require.Equal(t, []uint32{0, 1}, []uint32{first.Index, second.Index})
	require.Same(t, second, e.OfMapping(1))
	first.FD, first.Ready, first.SockError = 9, true, true
	e.FreeSlot(first)
	require.Equal(t, Listener{Socket: first.Socket, Proto: netpkt.UDP}, *first)
	require.EqualValues(t, -1, first.FD)
	require.Same(t, first, e.AllocSlot())
	require.EqualValues(t, 2, e.AllocSlot().Index)

	e.OnEvent(second, false)
	e.ForgetForwards()
	require.Equal(t, []*Listener{second}, waiting(e), "mappings stay")
}

func TestForwardsAreReceivedFromByOnePair(t *testing.T) {
	a := new(Listener)
	e := setOf(a)
	m := e.AllocSlot()
	received := func() (all []*Listener) {
		for l := range e.Receiving() {
			all = append(all, l)
		}
		return all
	}
	require.Equal(t, []*Listener{a, m}, received())
	e.shard.Listening = false
	require.Equal(t, []*Listener{m}, received())
}
