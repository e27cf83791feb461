package namerelay_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
)

// dial connects s to the next resolver for which there is no error, and returns the order of those that were tried.
func (r *rig) dial(s *namerelay.Stream, errs map[netip.AddrPort]error) (tried []netip.AddrPort, ok bool) {
	ok = r.relay.Dial(r.now, s, func(to netip.AddrPort) error {
		tried = append(tried, to)
		return errs[to]
	})
	return tried, ok
}

func TestAGuestHasFewConnections(t *testing.T) {
	r := newRig(t, 1)
	_, most := r.guest.Streams()
	var all []*namerelay.Stream
	for i := range most {
		s := r.relay.Begin(r.now)
		require.NotNil(t, s)
		r.relay.Started(s, uint32(i))
		all = append(all, s)
	}
	require.Nil(t, r.relay.Begin(r.now))
	require.Same(t, all[1], r.relay.Find(1))
	require.Nil(t, r.relay.Find(100))
	require.Len(t, r.relay.Streams(), most)
	r.relay.Over(r.now, all[1], namerelay.Course{})
	require.Nil(t, r.relay.Find(1))
	s := r.relay.Begin(r.now)
	require.NotNil(t, s)
	r.relay.GiveUp()
	require.NotNil(t, r.relay.Begin(r.now), "nor does one that never was keep its place")
}

func TestAConnectionGoesToTheNextResolverWhereOneTakesNone(t *testing.T) {
	r := newRig(t, 3)
	s := r.relay.Begin(r.now)
	tried, ok := r.dial(s, map[netip.AddrPort]error{resolver(1): unix.ECONNREFUSED})
	require.True(t, ok)
	require.Equal(t, []netip.AddrPort{resolver(1), resolver(2)}, tried)
	require.Equal(t, resolver(2), s.Resolver())
	require.Equal(t, []netip.AddrPort{resolver(1)}, r.left)

	r.relay.Failed(r.now, s.Resolver())
	tried, ok = r.dial(s, nil)
	require.True(t, ok)
	require.Equal(t, []netip.AddrPort{resolver(3)}, tried)
	_, ok = r.dial(s, nil)
	require.False(t, ok, "none is left")
	require.Equal(t, resolver(3), s.Resolver(), "it goes where it went")
}

func TestAShortageEndsTheSearch(t *testing.T) {
	r := newRig(t, 2)
	s := r.relay.Begin(r.now)
	tried, ok := r.dial(s, map[netip.AddrPort]error{resolver(1): unix.EMFILE})
	require.False(t, ok)
	require.Len(t, tried, 1)
	require.Empty(t, r.left)
	require.Equal(t, netip.AddrPort{}, s.Resolver())
}

func TestAConnectionEndsOnWhichNoAnswerPasses(t *testing.T) {
	r := newRig(t, 1)
	s := r.relay.Begin(r.now)
	r.dial(s, nil)
	r.relay.Started(s, 1)
	require.False(t, r.relay.AreStreamsDue(r.now))
	due := r.relay.Next(r.now)
	require.NotZero(t, due)
	require.True(t, r.relay.AreStreamsDue(due))
	r.relay.Streams()
	require.False(t, r.relay.AreStreamsDue(due), "that was done")

	for i := range 20 {
		r.now += second
		require.Equal(t, namerelay.Stays, r.relay.Judge(r.now, s, uint64(i+1)))
	}
	r.now += 9 * second
	require.Equal(t, namerelay.Stays, r.relay.Judge(r.now, s, 20))
	r.now += second
	require.Equal(t, namerelay.Ends, r.relay.Judge(r.now, s, 20))
	r.now += 19 * second
	require.Equal(t, namerelay.Stays, r.relay.Judge(r.now, s, 20))
	r.now += second
	require.Equal(t, namerelay.Abandoned, r.relay.Judge(r.now, s, 20))
}

func TestHowAConnectionWentIsRemembered(t *testing.T) {
	for name, c := range map[string]struct {
		course namerelay.Course
		left   bool
	}{
		"nothing was asked":           {namerelay.Course{EndedByHost: true}, false},
		"it was answered":             {namerelay.Course{FromGuest: 30, ToGuest: 50, EndedByHost: true}, false},
		"it ended before an answer":   {namerelay.Course{FromGuest: 30, EndedByHost: true}, true},
		"it was silent":               {namerelay.Course{FromGuest: 30, Age: 2 * second}, true},
		"the guest had little time":   {namerelay.Course{FromGuest: 30, Age: second / 2}, false},
		"the guest asked for nothing": {namerelay.Course{Age: 100 * second}, false},
	} {
		r := newRig(t, 2)
		s := r.relay.Begin(r.now)
		r.dial(s, nil)
		r.relay.Started(s, 1)
		r.relay.Over(r.now, s, c.course)
		require.Equal(t, c.left, len(r.left) == 1, name)
	}
}

func TestOnlyOrdinaryQueriesMayFollow(t *testing.T) {
	r := newRig(t, 1)
	s := r.relay.Begin(r.now)
	q := append([]byte{0, byte(len(question(1)))}, question(1)...)
	require.True(t, s.Permits(q))
	require.True(t, s.Permits(q[:5]))
	s.Sent(q[:5])
	require.True(t, s.Permits(q[5:]))
	update := append([]byte{}, q[5:]...)
	require.False(t, s.Permits(append(update, 0, 17, 0, 1, 5<<3, 0)), "one that is none comes behind")
}
