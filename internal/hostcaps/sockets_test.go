package hostcaps

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// control sets an option of a socket, and reports whether the kernel took it.
func control(t *testing.T, c interface {
	Control(func(fd uintptr)) error
}, level, option, value int) (taken bool) {
	require.NoError(t, c.Control(func(fd uintptr) { taken = unix.SetsockoptInt(int(fd), level, option, value) == nil }))
	return taken
}

func TestAPeekOffsetIsToldAsTheKernelHasIt(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	sender, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer sender.Close()
	c, err := l.Accept()
	require.NoError(t, err)
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	_, err = sender.Write([]byte("ab"))
	require.NoError(t, err)

	taken := control(t, raw, unix.SOL_SOCKET, peekOffset, 1)
	peeked, n := make([]byte, 2), 0
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	require.NoError(t, raw.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), peeked, unix.MSG_PEEK)
		return err == nil
	}))
	require.Equal(t, taken && string(peeked[:n]) == "b", HasPeekOffset())
}

// The kernel cuts a message in two for the sender, and puts both together again for a receiver on the same host.
func TestCuttingAndJoiningOfDatagramsAreToldAsTheKernelHasThem(t *testing.T) {
	for name, joins := range map[string]bool{"cut": false, "joined": true} {
		t.Run(name, func(t *testing.T) {
			receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			require.NoError(t, err)
			defer receiver.Close()
			sender, err := net.DialUDP("udp4", nil, receiver.LocalAddr().(*net.UDPAddr))
			require.NoError(t, err)
			defer sender.Close()
			in, err := receiver.SyscallConn()
			require.NoError(t, err)
			out, err := sender.SyscallConn()
			require.NoError(t, err)

			cuts := control(t, out, solUDP, unix.UDP_SEGMENT, 2)
			joined := joins && control(t, in, solUDP, unix.UDP_GRO, 1)
			_, err = sender.Write([]byte("abcd"))
			require.NoError(t, err)
			require.NoError(t, receiver.SetReadDeadline(time.Now().Add(time.Minute)))
			n, err := receiver.Read(make([]byte, 16))
			require.NoError(t, err)
			if joins {
				require.Equal(t, joined && n == 4, HasUDPGRO())
			} else {
				require.Equal(t, cuts && n == 2, HasUDPSegment())
			}
		})
	}
}

func TestIPv6IsToldAsTheKernelHasIt(t *testing.T) {
	c, err := net.ListenPacket("udp6", "[::]:0")
	if err == nil {
		defer c.Close()
	}
	require.Equal(t, err == nil, HasIPv6())
}

func TestAnOptionThatTheKernelDoesNotKnowIsNotThere(t *testing.T) {
	require.False(t, knows(unix.SOCK_DGRAM, solUDP, 9999))
	require.False(t, knows(unix.SOCK_STREAM, solUDP, unix.UDP_SEGMENT), "an option of another kind of socket")
	require.True(t, knows(unix.SOCK_STREAM, unix.SOL_SOCKET, unix.SO_KEEPALIVE))
}
