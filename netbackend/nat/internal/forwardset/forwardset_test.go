package forwardset

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// opened is a forward of a port of the host that has an open socket.
func opened(t *testing.T, proto uint8, port uint16) *Forward {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	f := spec.Forward{Proto: proto, Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Guest: netip.AddrPortFrom(netip.Addr{}, 80), Count: 1}
	return Bind(Bound{Forward: f, Socket: forward.Opened(fd)}, netip.MustParseAddr("10.0.2.15"))
}

// isOpen reports whether its socket is.
func isOpen(f *Forward) bool {
	_, err := unix.FcntlInt(uintptr(f.Listener.FD), unix.F_GETFD, 0)
	return f.Listener.FD >= 0 && err == nil
}

// begun are forwards of a guest with queue pairs.
func begun(t *testing.T, pairs int, first ...*Forward) (*Forwards, *atomic.Int32) {
	t.Helper()
	s, sockets := new(Forwards), new(atomic.Int32)
	for i, f := range first {
		f.Place(uint32(i))
	}
	s.Begin(first, pairs, sockets)
	t.Cleanup(func() { s.CloseAll(new(shard.KernelMemory)) })
	return s, sockets
}

// ports are those of the forwards of a set by their places, 0 for none.
func ports(s *Set) (all []uint16) {
	for _, b := range s.Bound {
		if b == nil {
			all = append(all, 0)
			continue
		}
		all = append(all, b.Spec.Host.Port())
	}
	return all
}

func TestAForwardThatLeavesKeepsItsPlaceAndItsSocketUntilAllPairsFollow(t *testing.T) {
	one, two, three := opened(t, unix.IPPROTO_TCP, 1), opened(t, unix.IPPROTO_TCP, 2), opened(t, unix.IPPROTO_TCP, 3)
	s, sockets := begun(t, 2, one, two)
	before := s.Current.Load()
	after, left := s.Publish([]spec.Forward{one.Spec}, []*Forward{three})
	require.Equal(t, []*Forward{one}, left)
	require.Equal(t, []uint16{0, 2, 3}, ports(after), "its place is nobody else's yet")
	require.Equal(t, []uint16{1, 2}, ports(before), "a set does not change")
	require.EqualValues(t, 2, sockets.Load())
	require.Len(t, s.List(), 2)

	s.Follow(0, after.Number)
	require.False(t, s.Await(after.Number, 0), "the other one does not follow")
	s.CloseLeft(nil)
	require.True(t, isOpen(one))
	s.Follow(1, after.Number)
	require.True(t, s.Await(after.Number, 0))
	s.CloseLeft(nil)
	require.False(t, isOpen(one))
	require.True(t, isOpen(two) && isOpen(three))
	four := opened(t, unix.IPPROTO_TCP, 4)
	after, _ = s.Publish(nil, []*Forward{four})
	require.Equal(t, []uint16{4, 2, 3}, ports(after), "the place is free")
	require.Zero(t, four.Listener.Index)
	require.Equal(t, four, after.At(0))
	require.Nil(t, after.At(3))
}

func TestForwardsThatAreLeavingComeBack(t *testing.T) {
	one, two := opened(t, unix.IPPROTO_TCP, 1), opened(t, unix.IPPROTO_TCP, 2)
	s, sockets := begun(t, 1, one, two)
	_, left := s.Publish([]spec.Forward{one.Spec, two.Spec}, nil)
	require.Len(t, left, 2)
	require.Zero(t, sockets.Load())
	after, revived := s.Revive()
	require.Equal(t, left, revived)
	require.Equal(t, []uint16{1, 2}, ports(after))
	require.EqualValues(t, 2, sockets.Load())
	s.Follow(0, after.Number)
	s.CloseLeft(nil)
	require.True(t, isOpen(one) && isOpen(two))
}

func TestNothingIsPublishedWhenAllPairsAreClosed(t *testing.T) {
	one, late := opened(t, unix.IPPROTO_TCP, 1), opened(t, unix.IPPROTO_TCP, 2)
	s, _ := begun(t, 1, one)
	require.False(t, s.IsClosed(0))
	s.Follow(0, FollowsAll)
	require.True(t, s.IsClosed(0))
	s.CloseAll(nil)
	require.False(t, isOpen(one))
	after, left := s.Publish(nil, []*Forward{late})
	require.Nil(t, after)
	require.Nil(t, left)
	require.True(t, isOpen(late), "it is the caller's")
	late.Close(nil)
}

// Queue pairs have what changes each for itself, and what all use together.
func TestEachPairHasAListenerOfItsOwn(t *testing.T) {
	udp := opened(t, unix.IPPROTO_UDP, 5)
	s, _ := begun(t, 2, udp)
	first, second := s.Current.Load().Listeners(), s.Current.Load().Listeners()
	require.NotSame(t, first[0], second[0])
	require.Same(t, first[0].Shared, second[0].Shared)
	require.EqualValues(t, 1, first[0].Shared.Via, "its index, and 0 for none")
	require.Equal(t, "10.0.2.15:80", first[0].Guest.Netip().String(), "where a forward leads that names no address")
	require.Same(t, &udp.Listener, ListenersOf([]*Forward{udp})[0])
}
