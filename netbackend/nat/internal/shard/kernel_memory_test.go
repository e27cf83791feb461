package shard

import (
	"math"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/porttest"
)

// memoryBench is a turn that has nothing but sockets' memory.
func memoryBench(budget int64) *Turn {
	p := &Turn{Shard: Shard{Pairs: &Pairs{}, Worker: porttest.DeafWorker{}}}
	p.Pairs.Memory.budget = budget
	return p
}

// optionOf returns an option of a socket.
func optionOf(t *testing.T, fd, option int) int {
	t.Helper()
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	require.NoError(t, err)
	return n
}

// connectedPair returns a socket that is connected by TCP, and its peer.
func connectedPair(t *testing.T) (fd int, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	addr := l.Addr().(*net.TCPAddr)
	require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}))
	peer, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	return fd, peer
}

// readFast lets some MiB pass through a connection.
func readFast(t *testing.T, fd int, peer net.Conn) {
	t.Helper()
	const much = 4 << 20
	go func() { _, _ = peer.Write(make([]byte, much)) }()
	buf := make([]byte, 1<<20)
	for range much / len(buf) {
		_, _, err := unix.Recvfrom(fd, buf, unix.MSG_WAITALL)
		require.NoError(t, err)
	}
}

func TestABufferIsNoLargerThanAnEighthOfWhatIsLeft(t *testing.T) {
	const mib = 1 << 20
	m := KernelMemory{budget: 256 * mib}
	for held, want := range map[int64]int64{128 * mib: 16 * mib, 192 * mib: 8 * mib, 248 * mib: mib, 256 * mib: leastBuffer, 999 * mib: leastBuffer} {
		m.Held.Store(held)
		require.True(t, m.IsPressed())
		require.Equal(t, want, m.allowance(), held)
	}
	m.Held.Store(128*mib - 1)
	require.False(t, m.IsPressed())
}

func TestBuffersAreBoundedUnderPressureAndTheKernelsChoiceWithoutIt(t *testing.T) {
	const budget = 64 << 20
	p := memoryBench(budget)
	m, s := &p.Pairs.Memory, new(SocketMemory)
	fd, peer := connectedPair(t)
	receive, send := optionOf(t, fd, unix.SO_RCVBUF), optionOf(t, fd, unix.SO_SNDBUF)
	p.LookAt(int32(fd), s, Stream)
	require.Equal(t, receive, optionOf(t, fd, unix.SO_RCVBUF), "there is no need")
	require.Equal(t, send, optionOf(t, fd, unix.SO_SNDBUF))
	require.Zero(t, p.Counters.BuffersBounded)

	m.Held.Store(budget)
	p.LookAt(int32(fd), s, Stream)
	require.Equal(t, leastBuffer, optionOf(t, fd, unix.SO_RCVBUF))
	require.Equal(t, leastBuffer, optionOf(t, fd, unix.SO_SNDBUF))
	require.EqualValues(t, 2, p.Counters.BuffersBounded)

	m.Held.Store(0)
	p.LookAt(int32(fd), s, Stream)
	for begun := time.Now(); optionOf(t, fd, unix.SO_RCVBUF) <= receive && time.Since(begun) < time.Minute; {
		readFast(t, fd, peer) // how fast the kernel finds it depends on the machine
	}
	require.Greater(t, optionOf(t, fd, unix.SO_RCVBUF), receive, "it has grown with the speed of the connection")
}

// Buffers that have grown while a guest read are as large as before when it reads no more.
func TestAGuestThatReadsFastAndThenStopsIsBounded(t *testing.T) {
	const connections, budget, step = 4, 2 << 20, 128 << 10
	p := memoryBench(budget)
	var fds [connections]int
	var peers [connections]net.Conn
	var known [connections]SocketMemory
	for i := range fds {
		fds[i], peers[i] = connectedPair(t)
		readFast(t, fds[i], peers[i])
	}
	for range 16 {
		for i := range fds {
			raw, err := peers[i].(*net.TCPConn).SyscallConn()
			require.NoError(t, err)
			require.NoError(t, raw.Control(func(fd uintptr) { _, _ = unix.Write(int(fd), make([]byte, step)) }))
		}
		for i, fd := range fds {
			p.LookAt(int32(fd), &known[i], Stream)
		}
	}
	held := p.Pairs.Memory.Held.Load()
	require.Greater(t, held, int64(budget/2))
	require.Less(t, held, int64(budget+connections*(2*step)), "the budget, and what came between two looks, as the kernel counts it")
}

func TestBuffersOfOtherSocketsHaveTheirUsualSizeAgain(t *testing.T) {
	const budget = 64 << 20
	for kind, family := range map[socketKind]int{Datagrams: unix.AF_INET, Local: unix.AF_UNIX} {
		option := map[socketKind]int{Datagrams: unix.SO_RCVBUF, Local: unix.SO_SNDBUF}[kind]
		p := memoryBench(budget)
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, usualBuffer/2)
		s := new(SocketMemory)
		p.Pairs.Memory.Held.Store(budget)
		p.LookAt(int32(fd), s, kind)
		require.Equal(t, leastBuffer, optionOf(t, fd, option))
		p.Pairs.Memory.Held.Store(0)
		p.LookAt(int32(fd), s, kind)
		require.Equal(t, usualBuffer, optionOf(t, fd, option))
	}
}

func TestTheBudgetIsDividedAmongGuests(t *testing.T) {
	all := KernelLimits{Memory: math.MaxInt64}.Among(1).Memory
	require.Equal(t, HostKernelMemory(), all)
	require.Equal(t, all/10, KernelLimits{Memory: math.MaxInt64}.Among(10).Memory)
	require.EqualValues(t, 1000, KernelLimits{Memory: 1000}.Among(10).Memory)
}
