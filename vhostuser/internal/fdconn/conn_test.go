package fdconn

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/wire"
)

// pair returns a connection and the raw socket of its peer.
func pair(t *testing.T) (*Conn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return New(ends[0], time.Minute), ends[1]
}

// checkFDs fails the test if descriptors were left open, once everything else of the test is cleaned up.
func checkFDs(t *testing.T) {
	t.Helper()
	before := countFDs(t)
	t.Cleanup(func() { require.Equal(t, before, countFDs(t), "open file descriptors") })
}

func countFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func eventfd(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func eventfds(t *testing.T, n int) []int {
	fds := make([]int, n)
	for i := range fds {
		fds[i] = eventfd(t)
	}
	return fds
}

func send(t *testing.T, c *net.UnixConn, b []byte, fds ...int) {
	t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := c.WriteMsgUnix(b, oob, nil)
	require.NoError(t, err)
}

func kick(ring uint32) []byte {
	return (&wire.Message{Request: wire.SetVringKick, Ring: ring}).Append(nil)
}

func TestReadGivesMessageWithItsDescriptors(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	want := eventfds(t, wire.MaxRegions)
	send(t, peer, kick(3), want...)

	m, err := c.Read(time.Time{})
	require.NoError(t, err)
	defer m.FDs.Close()
	require.Equal(t, wire.Header{Request: wire.SetVringKick, Size: 8}, m.Header)
	require.Equal(t, []byte{3, 0, 0, 0, 0, 0, 0, 0}, m.Payload)
	require.Len(t, m.FDs, wire.MaxRegions)
	for _, fd := range m.FDs {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.FD_CLOEXEC, "a child process must not inherit it")
	}
}

func TestTakenDescriptorSurvivesClose(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	send(t, peer, kick(0), eventfds(t, 2)...)
	m, err := c.Read(time.Time{})
	require.NoError(t, err)
	fd := m.FDs.Take(1)
	m.FDs.Close()
	m.FDs.Close()
	_, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))
}

func TestTwoMessagesInOneWriteAreTwoReads(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	send(t, peer, append(kick(1), kick(2)...), eventfd(t))
	for ring := byte(1); ring <= 2; ring++ {
		m, err := c.Read(time.Time{})
		require.NoError(t, err)
		require.Equal(t, ring, m.Payload[0])
		require.Len(t, m.FDs, int(2-ring), "the descriptor belongs to the first message")
		m.FDs.Close()
	}
}

func TestMessageInPieces(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	b := kick(5)
	fd := eventfd(t)
	go func() {
		peer.WriteMsgUnix(b[:1], unix.UnixRights(fd), nil)
		for _, piece := range [][]byte{b[1:7], b[7:13], b[13:]} {
			time.Sleep(5 * time.Millisecond)
			peer.Write(piece)
		}
	}()
	m, err := c.Read(time.Time{})
	require.NoError(t, err)
	require.Equal(t, byte(5), m.Payload[0])
	require.Len(t, m.FDs, 1)
	m.FDs.Close()
}

func TestReadRefusesMisplacedDescriptors(t *testing.T) {
	b := kick(0)
	tests := []struct {
		name string
		send func(t *testing.T, peer *net.UnixConn)
	}{
		{"on the second byte", func(t *testing.T, peer *net.UnixConn) {
			send(t, peer, b[:1])
			send(t, peer, b[1:], eventfd(t))
		}},
		{"twice within the header", func(t *testing.T, peer *net.UnixConn) {
			send(t, peer, b[:1], eventfd(t))
			send(t, peer, b[1:], eventfd(t))
		}},
		{"on the payload", func(t *testing.T, peer *net.UnixConn) {
			send(t, peer, b[:wire.HeaderSize])
			send(t, peer, b[wire.HeaderSize:], eventfds(t, 3)...)
		}},
		{"nine of them on the payload", func(t *testing.T, peer *net.UnixConn) {
			send(t, peer, b[:wire.HeaderSize], eventfd(t))
			send(t, peer, b[wire.HeaderSize:], eventfds(t, 9)...)
		}},
		{"with a header that is not one", func(t *testing.T, peer *net.UnixConn) {
			send(t, peer, make([]byte, wire.HeaderSize), eventfds(t, 8)...)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkFDs(t)
			c, peer := pair(t)
			tt.send(t, peer)
			_, err := c.Read(time.Time{})
			require.ErrorIs(t, err, wire.ErrFraming)
		})
	}
}

func TestAMessageTellsThatItHasTooManyDescriptors(t *testing.T) {
	for _, n := range []int{wire.MaxRegions, wire.MaxRegions + 1, wire.MaxRegions + 2, 253} { // the kernel allows 253
		checkFDs(t)
		c, peer := pair(t)
		send(t, peer, kick(1), eventfds(t, n)...)
		send(t, peer, kick(2))
		m, err := c.Read(time.Time{})
		require.NoError(t, err)
		if n > wire.MaxRegions+1 { // one more is seen by its number
			require.ErrorIs(t, m.FDErr, ErrTooManyFDs)
		} else {
			require.NoError(t, m.FDErr)
		}
		require.Len(t, m.FDs, min(n, wire.MaxRegions+1))
		m.FDs.Close()
		m, err = c.Read(time.Time{})
		require.NoError(t, err, "the stream goes on")
		require.Equal(t, byte(2), m.Payload[0])
		require.NoError(t, m.FDErr)
		require.Empty(t, m.FDs)
	}
}

func TestAMessageTellsThatThisProcessHasTooManyOpenFiles(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	for _, room := range []int{2, 0} {
		fds := eventfds(t, 3)
		leaveRoom(t, room, func() {
			send(t, peer, kick(1), fds...)
			m, err := c.Read(time.Time{})
			require.NoError(t, err)
			require.ErrorIs(t, m.FDErr, ErrNoRoomForFDs)
			require.ErrorContains(t, m.FDErr, "ulimit -n")
			require.Len(t, m.FDs, room)
			m.FDs.Close()
		})
	}
	send(t, peer, kick(1), eventfds(t, 3)...)
	m, err := c.Read(time.Time{})
	require.NoError(t, err)
	require.NoError(t, m.FDErr)
	m.FDs.Close()
}

// leaveRoom runs do while this process may open only so many more descriptors.
func leaveRoom(t *testing.T, room int, do func()) {
	t.Helper()
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	var fillers []int
	defer func() {
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
		for _, fd := range fillers {
			require.NoError(t, unix.Close(fd))
		}
	}()
	limited := before
	limited.Cur = 200
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limited))
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			require.ErrorIs(t, err, unix.EMFILE)
			break
		}
		fillers = append(fillers, fd)
	}
	for range room {
		require.NoError(t, unix.Close(fillers[len(fillers)-1]))
		fillers = fillers[:len(fillers)-1]
	}
	do()
}

func TestReadGivesUpWaitingAndGoesOn(t *testing.T) {
	c, peer := pair(t)
	_, err := c.Read(time.Now().Add(5 * time.Millisecond))
	require.ErrorIs(t, err, ErrQuiet)
	send(t, peer, kick(3))
	m, err := c.Read(time.Now().Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, byte(3), m.Payload[0])
	send(t, peer, kick(4))
	m, err = c.Read(time.Time{})
	require.NoError(t, err)
	require.Equal(t, byte(4), m.Payload[0])
}

func TestEndOfStream(t *testing.T) {
	b := kick(0)
	for n := range b {
		checkFDs(t)
		c, peer := pair(t)
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		} else {
			send(t, peer, b[:n], eventfd(t))
		}
		require.NoError(t, peer.Close())
		_, err := c.Read(time.Time{})
		require.ErrorIs(t, err, want, "after %d bytes", n)
	}
}

func TestOversizedMessageIsRefusedBeforeItsPayloadIsRead(t *testing.T) {
	c, peer := pair(t)
	b := kick(0)
	b[10] = 1 // size 65544
	send(t, peer, b[:wire.HeaderSize])
	_, err := c.Read(time.Time{})
	require.ErrorIs(t, err, wire.ErrFraming)
}

func TestIncompleteMessageTimesOut(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	c.timeout = 20 * time.Millisecond
	send(t, peer, kick(0)[:5], eventfd(t))
	_, err := c.Read(time.Time{})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestWriteToPeerThatDoesNotReadTimesOut(t *testing.T) {
	c, _ := pair(t)
	c.timeout = 20 * time.Millisecond
	reply := make([]byte, 1<<16)
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		err = c.Write(reply)
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestWritePassesDescriptors(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	other := New(peer, time.Minute)
	require.NoError(t, c.Write(kick(7), eventfd(t)))
	m, err := other.Read(time.Time{})
	require.NoError(t, err)
	require.Len(t, m.FDs, 1)
	m.FDs.Close()
}

func TestCloseEndsRead(t *testing.T) {
	c, _ := pair(t)
	done := make(chan error)
	go func() {
		_, err := c.Read(time.Time{})
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
	require.NoError(t, c.Close(), "closing twice is fine")
}

func TestPeerGone(t *testing.T) {
	c, peer := pair(t)
	require.False(t, c.PeerGone())
	send(t, peer, kick(0)[:3])
	require.False(t, c.PeerGone(), "unread bytes are no hang-up")
	require.NoError(t, peer.Close())
	require.True(t, c.PeerGone(), "though bytes are unread")

	c, _ = pair(t)
	require.NoError(t, c.Close())
	require.True(t, c.PeerGone())
}

func TestReplyWithDescriptorsIsRefused(t *testing.T) {
	checkFDs(t)
	c, peer := pair(t)
	reply := wire.AppendU64(nil, wire.GetFeatures, 7)
	send(t, peer, reply)
	b := make([]byte, wire.ReplySize)
	require.NoError(t, c.ReadReply(b))
	require.Equal(t, reply, b)
	send(t, peer, reply, eventfd(t))
	require.True(t, errors.Is(c.ReadReply(b), wire.ErrFraming))
}
