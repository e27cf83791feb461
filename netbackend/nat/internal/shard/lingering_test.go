package shard

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/porttest"
)

// lingeringTurn is a turn of a shard that has lingering connections, whose peers were seen to take something at these times. It returns
// their sockets and peers, too.
func lingeringTurn(t *testing.T, moved ...int64) (turn *Turn, fds []int, peers []net.Conn) {
	t.Helper()
	limits, of := UsualKernelLimits(), &Pairs{}
	require.NoError(t, of.SetUp(64, &limits, nil))
	turn = new(Turn)
	turn.SetUp(0, Config{MaxFlows: 64, MaxSockets: 64, Queues: 1}, of, nil)
	turn.Worker, turn.Hooks.Created, turn.Hooks.Closing = porttest.DeafWorker{}, func(*Flow) {}, func(*Flow) {}
	turn.Join()
	for i, at := range moved {
		fd, peer := filledSocket(t, turn)
		key := flowtable.Key{GuestPort: uint16(i + 1), RemotePort: 9, Proto: netpkt.TCP}
		f, _ := turn.Create(&key, fd, ProtocolStates, Inbound, ClassConnects)
		require.NotNil(t, f)
		turn.Now = at
		require.True(t, turn.Linger(f))
		turn.Remove(f)
		fds, peers = append(fds, fd), append(peers, peer)
	}
	t.Cleanup(turn.CloseAllLingering)
	return turn, fds, peers
}

// filledSocket returns a socket whose peer takes nothing more. It is the caller's to close.
func filledSocket(t *testing.T, turn *Turn) (fd int, peer net.Conn) {
	t.Helper()
	first, peer := connectedPair(t)
	fd, err := unix.FcntlInt(uintptr(first), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	const enough = 256 << 10 // bytes, though some of it be on its way to the peer just now
	for turn.MemInfo.Read(int32(fd)) == 0 && turn.MemInfo[hostsock.MemSendQueued] < enough {
		_, err = unix.Write(fd, make([]byte, 64<<10)) // until the peer's buffer is full
		require.NoError(t, err)
	}
	return fd, peer
}

// lingeringSockets returns the sockets that linger.
func lingeringSockets(s *Shard) (fds []int) {
	s.lingering.eachFrom(0, func(f *Flow) bool {
		fds = append(fds, int(f.FD))
		return true
	})
	return fds
}

func TestTheLingeringConnectionGoesWhosePeerHasTakenNothingForLongest(t *testing.T) {
	turn, fds, peers := lingeringTurn(t, 30, 10, 20)
	require.Equal(t, fds, lingeringSockets(&turn.Shard))
	require.NotZero(t, turn.Pairs.Memory.Bytes())
	for turn.Now = 25; turn.lingering.at(1).moved == 10; turn.LingeringEvent(1) {
		_, err := peers[1].Read(make([]byte, 64<<10)) // until the kernel has room to send more to it
		require.NoError(t, err)
	}
	for _, want := range [][]int{fds[:2], fds[:1], nil} {
		require.True(t, turn.Evict(ClassLingering))
		require.Equal(t, want, lingeringSockets(&turn.Shard))
	}
	require.False(t, turn.Evict(ClassLingering))
	require.EqualValues(t, 3, turn.Counters.LingeringEvicted)
	require.Zero(t, turn.Sockets())
	require.Zero(t, turn.Pairs.Memory.Bytes())
}

func TestPlacesOfLingeringConnectionsAreUsedAgain(t *testing.T) {
	turn, _, _ := lingeringTurn(t, 1, 2, 3)
	l := &turn.lingering
	turn.ResetLingering(&l.places[1].Flow)
	require.Nil(t, l.at(1))
	for _, place := range []uint32{1, 7} {
		turn.LingeringEvent(place)
	}
	require.EqualValues(t, 2, turn.Counters.StaleEvents)

	var seen []uint32
	next := l.eachFrom(0, func(f *Flow) bool { seen = append(seen, f.Index); return false })
	require.Equal(t, []uint32{0}, seen)
	require.Zero(t, l.eachFrom(next, func(f *Flow) bool { seen = append(seen, f.Index); return true }))
	require.Equal(t, []uint32{0, 2}, seen)

	require.EqualValues(t, 1, l.add(&Flow{FD: -1}, 0).Index)
	l.empty = append(l.empty, 1)
	require.Len(t, l.places, 3)
}

// The client of a unix socket has what was sent to it, and the kernel counts that as its own.
func TestUnixSocketsDoNotLinger(t *testing.T) {
	turn, _, _ := lingeringTurn(t, 1)
	f := turn.lingering.at(0).Flow
	f.Bits |= UnixSocket
	require.False(t, turn.Linger(&f))
	require.GreaterOrEqual(t, f.FD, int32(0), "its socket is the flow's still")
}
