package source

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
)

// keeper keeps the addresses of a guest's sockets. No route is asked for.
func keeper(t *testing.T) (*shardtest.Shard, *Keeper) {
	s, e := shardtest.New(t, 0), new(Keeper)
	e.SetUp(&s.Turn.Shard, nil, NewGuest())
	return s, e
}

// loopback is a flow whose socket is connected to a port of the loopback.
func loopback(t *testing.T) *shard.Flow {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}))
	f := &shard.Flow{FD: int32(fd)}
	f.Key.Proto = netpkt.UDP
	return f
}

func TestErrorsThatCanBeOfASourceAddressAreToldFromOthers(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.ENODEV} {
		require.True(t, IsAboutSource(errno), errno)
	}
	for _, errno := range []unix.Errno{0, unix.ECONNREFUSED, unix.EMSGSIZE, unix.EAGAIN, unix.EPERM, unix.EACCES, unix.EFAULT} {
		require.False(t, IsAboutSource(errno), errno)
	}
}

// Each flow is looked at once after a change, and those that share a socket never: that is not connected.
func TestAFlowIsLookedAtOnceAfterAChange(t *testing.T) {
	_, e := keeper(t)
	own, shared, closed := loopback(t), loopback(t), &shard.Flow{FD: -1}
	shared.Bits = shard.SharedSocket
	for _, f := range []*shard.Flow{own, shared, closed} {
		f.RouteNews = e.Changes() + 1 // it was made before something has changed
		e.KeepUp(f)
	}
	require.Equal(t, []uint16{e.Changes(), e.Changes() + 1, e.Changes()}, []uint16{own.RouteNews, shared.RouteNews, closed.RouteNews})
	require.Zero(t, e.shard.Counters.SourcesMoved, "nothing is better on the loopback")
}

// What errors cause is bounded for all flows of a guest together.
func TestErrorsCauseSoManyLooksAndNoMore(t *testing.T) {
	s, e := keeper(t)
	f := loopback(t)
	looked := 0
	for range 2 * sourceTries {
		f.RouteNews = e.Changes() + 1
		require.False(t, e.Recovers(s.Turn, f, unix.ENETUNREACH))
		if f.RouteNews == e.Changes() {
			looked++
		}
	}
	require.Equal(t, sourceTries, looked)
	s.At(s.Now + 1e9)
	for _, c := range []struct {
		bits  shard.Bits
		errno unix.Errno
		looks bool
	}{{0, unix.ENETUNREACH, true}, {0, unix.ECONNREFUSED, false}, {shard.SharedSocket, unix.ENETUNREACH, false}} {
		f.Bits, f.RouteNews = c.bits, e.Changes()+1
		require.False(t, e.Recovers(s.Turn, f, c.errno))
		require.Equal(t, c.looks, f.RouteNews == e.Changes())
	}
}
