package inbound

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/forwardset"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/netbackend/porttest"
)

// forwarded is a guest with forwards.
type forwarded struct {
	Acceptor
	*shardtest.Shard
	t        *testing.T
	forwards *forwardset.Forwards
}

// opened is a forward of a port of the host, on which it listens.
func opened(t *testing.T) *forwardset.Forward {
	t.Helper()
	f := spec.Forward{Proto: unix.IPPROTO_TCP, Host: porttest.FreePort(t), Guest: netip.AddrPortFrom(netip.Addr{}, 80), Count: 1}
	fd, _, err := forward.ListenAtOnce(&f)
	require.NoError(t, err)
	return forwardset.Bind(forwardset.Bound{Forward: f, Socket: forward.Opened(fd)}, netip.MustParseAddr("10.0.2.15"))
}

func newForwarded(t *testing.T, first ...*forwardset.Forward) *forwarded {
	f := &forwarded{Shard: shardtest.New(t, 0), t: t, forwards: new(forwardset.Forwards)}
	for i, one := range first {
		one.Place(uint32(i))
	}
	f.forwards.Begin(first, 1, new(atomic.Int32))
	f.Acceptor.SetUp(Uses{Shard: &f.Turn.Shard, Listeners: new(listeners.Set), TCP: new(tcp.Engine), UDP: new(udp.Engine)}, f.forwards)
	t.Cleanup(func() { f.forwards.CloseAll(new(shard.KernelMemory)) })
	return f
}

func TestClientsOfUnixSocketsAreToldApart(t *testing.T) {
	f := newForwarded(t)
	seen := map[uint16]bool{}
	const all = 65535 - shard.FirstAnyPort
	for range all {
		c := f.unixClient()
		require.Equal(t, f.Nets.V4.Loopback, c.Addr)
		require.Greater(t, c.Port, uint16(shard.FirstAnyPort))
		seen[c.Port] = true
	}
	require.Len(t, seen, all)
	require.EqualValues(t, shard.FirstAnyPort+1, f.unixClient().Port, "from the beginning")
}

// For lack of descriptors or memory the rest waits in the kernel for a while. A connection that ended before it was taken is of no interest.
func TestALackPausesWhatIsAccepted(t *testing.T) {
	for errno, waits := range map[unix.Errno]bool{
		unix.EMFILE: true, unix.ENFILE: true, unix.ENOBUFS: true, unix.ENOMEM: true, unix.ECONNABORTED: false, unix.EPROTO: false,
	} {
		f := newForwarded(t)
		f.acceptFailed(f.Turn, errno)
		require.Equal(t, waits, f.Next() == f.Now+acceptRetry, errno)
		require.Equal(t, waits, f.Next() != 0, errno)
		require.Equal(t, !waits, f.Again, errno)
	}
}

func TestAQueuePairFollowsTheForwardsOfNow(t *testing.T) {
	one, two := opened(t), opened(t)
	f := newForwarded(t, one)
	f.Follow(f.Turn, f.forwards.Current.Load())
	after, _ := f.forwards.Publish([]spec.Forward{one.Spec}, []*forwardset.Forward{two})
	require.False(t, f.forwards.Await(after.Number, 0))
	f.Follow(f.Turn, after)
	require.True(t, f.forwards.Await(after.Number, 0))
	require.Nil(t, f.listeners.OfForward(0))
	require.Equal(t, two.Listener.FD, f.listeners.OfForward(1).FD)
	require.NotSame(t, &two.Listener, f.listeners.OfForward(1), "each pair has its own")

	f.CloseListeners()
	require.True(t, f.IsClosed())
	last, _ := f.forwards.Publish(nil, []*forwardset.Forward{opened(t)})
	f.Follow(f.Turn, last)
	for i := range last.Bound {
		require.Nil(t, f.listeners.OfForward(uint32(i)), "a pair that is closed takes no clients any more")
	}
}

func TestCallsThatWereNotBegunFailWithTheQueuePair(t *testing.T) {
	f := newForwarded(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pair[1])
	var failed []stats.CloseReason
	f.Call(&tcp.Call{Socket: pair[0], Failed: func(c tcp.CallFailure) { failed = append(failed, c.Cause) }})
	f.CloseListeners()
	require.Equal(t, []stats.CloseReason{stats.EndClosed}, failed)
	n, err := unix.Read(pair[1], make([]byte, 1))
	require.NoError(t, err)
	require.Zero(t, n, "its socket is closed")
	f.failCalls()
	require.Len(t, failed, 1)
}
