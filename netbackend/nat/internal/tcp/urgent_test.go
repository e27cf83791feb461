package tcp

import (
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// streams returns both ends of a TCP connection of the loopback; to is read in line.
func streams(t *testing.T) (from, to int) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(l)
	hostsock.ReadInline(l)
	require.NoError(t, unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(l, 1))
	name, err := unix.Getsockname(l)
	require.NoError(t, err)
	from, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(from) })
	require.NoError(t, unix.Connect(from, name))
	require.NoError(t, unix.SetsockoptInt(from, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	to, _, err = unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(to) })
	return from, to
}

// underSignals runs fn on a thread that gets signals all the while, as the runtime sends them.
func underSignals(fn func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, thread, end, ended := unix.Getpid(), unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
				_ = unix.Tgkill(pid, thread, unix.SIGURG)
			}
		}
	}()
	fn()
	close(end)
	<-ended
}

// In front of an urgent byte the kernel says that there is nothing while a signal is pending.
func TestASignalDoesNotKeepAnUrgentByteFromBeingDropped(t *testing.T) {
	from, to := streams(t)
	underSignals(func() {
		for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); {
			require.NoError(t, unix.Sendto(from, []byte("X"), unix.MSG_OOB, nil))
			n, errno := hostsock.Discard(int32(to), 1)
			require.Zero(t, errno)
			require.Equal(t, 1, n)
		}
	})
}

// openConnection returns TCP and a turn of an engine without a guest, with one open connection whose host socket is fd.
func openConnection(t *testing.T, fd int) (*Engine, *shard.Turn, conn) {
	limits := shard.UsualKernelLimits().Among(1)
	pairs, turn, e := new(shard.Pairs), new(shard.Turn), new(Engine)
	require.NoError(t, pairs.SetUp(1, &limits, nil))
	turn.SetUp(0, shard.Config{MaxFlows: 1, MaxSockets: 1, Queues: 1, MTU: 1500}, pairs, new(guestnet.Networks))
	e.SetUp(Config{PeekOffset: hostcaps.HasPeekOffset()}, Uses{Shard: &turn.Shard, Hooks: Hooks{
		OnGuestClosed: func(*shard.Turn, flowtable.Key) {},
	}}, NewGuest(pairs.Flows))
	opened, _ := turn.Flows.Create(&flowtable.Key{Proto: netpkt.TCP}, turn.Owner, func(uint32) {})
	t.Cleanup(func() { turn.Flows.Remove(opened) })
	f := e.begin(opened)
	f.FD, f.State = int32(fd), stateOpen
	return e, turn, f
}

func TestASignalDoesNotMakeAFlowWaitInFrontOfAnUrgentByte(t *testing.T) {
	from, to := streams(t)
	e, turn, f := openConnection(t, to)
	f.tcp.urgency = hostUrgent
	require.NoError(t, unix.Sendto(from, []byte("X"), unix.MSG_OOB, nil))
	e.findMark(turn, f)
	require.Equal(t, hostMarked, f.tcp.urgency)
	var b [100]byte
	frames := [][]guestmem.Iovec{{guestmem.PieceOf(b[:])}}
	found, again := 0, 0
	underSignals(func() {
		for end := time.Now().Add(time.Second); again < 2 && time.Now().Before(end); {
			f.Bits = f.Bits&^shard.PeerClosed | shard.Readable
			if e.peek(turn, f, 0, frames, 1) == 1 {
				found++
				continue
			}
			require.NotZero(t, f.Bits&shard.Readable)
			require.True(t, turn.HasWork(), "it has another turn")
			again++
		}
	})
	require.NotZero(t, found)
	t.Log("signals came between", again, "times")
}

// A socket that takes a part of what it is given marks the last byte of that part. So the urgent one goes alone.
func TestASocketThatIsFullMarksNoOtherByte(t *testing.T) {
	to, from := streams(t)
	require.NoError(t, unix.SetNonblock(to, true))
	require.NoError(t, unix.SetsockoptInt(to, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
	e, turn, f := openConnection(t, to)
	const n = 16 << 20
	f.tcp.rcvWndEdge = seqnum.From(n)
	f.tcp.urgency, f.tcp.guestMark = guestMarked, seqnum.From(n-1)
	chain := virtqueue.Chain{Iov: []guestmem.Iovec{guestmem.PieceOf(make([]byte, n))}, Len: n}
	e.queueMarked(turn, f, seqnum.From(0), 0, n, false, &chain)
	require.Less(t, f.tcp.rcvNxt.Uint32(), uint32(n))
	require.NotZero(t, f.tcp.rcvNxt)
	require.Equal(t, guestMarked, f.tcp.urgency, "it is still to come")
	require.False(t, hasUrgent(t, from))
}

// hasUrgent tells whether the socket fd has an urgent byte.
func hasUrgent(t *testing.T, fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, 0)
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		return n > 0
	}
}

func TestAMarkThatWasPassedOnIsForgotten(t *testing.T) {
	to, from := streams(t)
	e, turn, f := openConnection(t, to)
	f.tcp.rcvWndEdge = seqnum.From(100)
	f.tcp.urgency, f.tcp.guestMark = guestMarked, seqnum.From(3)
	chain := virtqueue.Chain{Iov: []guestmem.Iovec{guestmem.PieceOf([]byte("abcXdef"))}, Len: 7}
	e.queueMarked(turn, f, seqnum.From(0), 0, 7, false, &chain)
	require.Zero(t, f.tcp.urgency, "or it would be met again when the numbers have wrapped around")
	e.FlushOutgoing(turn)
	require.Equal(t, seqnum.From(7), f.tcp.rcvNxt)
	require.True(t, hasUrgent(t, from))
}

func TestAMarkOfTheGuestsPastIsNotKept(t *testing.T) {
	e, f := new(Engine), conn{&shard.Flow{State: stateOpen}, &state{rcvNxt: seqnum.From(1000)}}
	segmentAt := func(seq uint32, n int, urgent uint16) Segment {
		return Segment{Segment: netpkt.Segment{Seq: seqnum.From(seq), N: n, Urgent: urgent}}
	}
	for _, s := range []Segment{segmentAt(990, 20, 10), segmentAt(990, 20, 0), segmentAt(980, 19, 30)} {
		e.noteMark(f, &s)
		require.Zero(t, f.tcp.urgency, s, "it would be met when the numbers have wrapped around")
	}
	s := segmentAt(990, 20, 11)
	e.noteMark(f, &s)
	require.Equal(t, guestMarked, f.tcp.urgency)
	require.Equal(t, seqnum.From(1000), f.tcp.guestMark)
}

// Unix sockets take urgent bytes from Linux 5.15 on. This one takes none at all.
func TestAnUrgentByteIsOrdinaryWhereTheSocketTakesNone(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	e, f := new(Engine), conn{&shard.Flow{FD: int32(pair[0]), State: stateOpen}, &state{}}
	require.True(t, e.deliver(new(shard.Turn), f, []guestmem.Iovec{guestmem.PieceOf([]byte("X"))}, 1, unix.MSG_OOB))
	require.Equal(t, seqnum.From(1), f.tcp.rcvNxt)
	require.Zero(t, f.tcp.flags&hostReset)
	var b [10]byte
	n, err := unix.Read(pair[1], b[:])
	require.NoError(t, err)
	require.Equal(t, "X", string(b[:n]))
}

// Marks are rare, and there may be hundreds of thousands of connections: what is to be remembered of a mark lies where there was room.
// With the record that each flow has, 104 bytes at most, that is 296 for a connection.
func TestTheStateOfAConnectionIsNoLargerThanItHasToBe(t *testing.T) {
	require.LessOrEqual(t, reflect.TypeFor[state]().Size(), uintptr(192))
}
