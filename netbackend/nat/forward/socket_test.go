package forward

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// listenTCP opens a forward at a free port of the loopback. It is asked for by its number: the kernel takes one back that it chose
// itself as soon as nobody listens.
func listenTCP(t *testing.T) (s Socket, at netip.AddrPort) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at = l.Addr().(*net.TCPAddr).AddrPort()
	require.NoError(t, l.Close())
	s, err = Listen(&spec.Forward{Proto: unix.IPPROTO_TCP, Host: at, Count: 1}, 0, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s, at
}

// connects reports whether a port takes a connection.
func connects(t *testing.T, at netip.AddrPort) bool {
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		require.ErrorIs(t, err, unix.ECONNREFUSED)
		return false
	}
	require.NoError(t, c.Close())
	return true
}

func TestAPausedPortRefusesAndStaysBound(t *testing.T) {
	s, at := listenTCP(t)
	require.True(t, connects(t, at))
	for range 3 {
		s.Pause()
		require.False(t, connects(t, at))
		other := spec.Forward{Proto: unix.IPPROTO_TCP, Host: at, Count: 1}
		_, err := Listen(&other, 0, nil)
		require.ErrorIs(t, err, unix.EADDRINUSE, "nobody else gets the port in the meantime")
		before := false
		require.NoError(t, s.Resume(func() { before = !connects(t, at) }))
		require.True(t, before, "the port refused until all was ready")
		require.True(t, connects(t, at))
	}
}

func TestAnErrorNamesTheProcessThatHasThePort(t *testing.T) {
	_, at := listenTCP(t)
	f := spec.Forward{Proto: unix.IPPROTO_TCP, Host: at, Count: 1}
	_, err := Listen(&f, 0, nil)
	var bind *BindError
	require.ErrorAs(t, err, &bind)
	require.Equal(t, at, bind.Host)
	require.Contains(t, bind.Holder, "process "+strconv.Itoa(os.Getpid()))
	require.ErrorContains(t, err, bind.Holder+" has the port; choose another host port, or end it")
}

func TestASocketIsPreparedForWhatComesIn(t *testing.T) {
	option := func(s *Socket, level, name int) int {
		value, err := unix.GetsockoptInt(int(s.FD), level, name)
		require.NoError(t, err)
		return value
	}
	stream, _ := listenTCP(t)
	require.NotZero(t, option(&stream, unix.SOL_SOCKET, unix.SO_OOBINLINE))
	require.False(t, stream.AsksWays())
	for host, asks := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true, "[::1]:0": false, "[::]:0": true} {
		at := netip.MustParseAddrPort(host)
		s, err := Listen(&spec.Forward{Proto: unix.IPPROTO_UDP, Host: at, Count: 1}, 0, nil)
		require.NoError(t, err)
		require.Equal(t, asks, s.AsksWays(), host)
		if at.Addr().Is4() {
			require.NotZero(t, option(&s, unix.IPPROTO_IP, unix.IP_RECVERR))
		} else {
			require.NotZero(t, option(&s, unix.IPPROTO_IPV6, unix.IPV6_RECVERR))
		}
		s.Close()
	}
}

func TestTheFileOfAUnixSocketGoesUnlessItIsKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "web.sock")
		s, err := Listen(&spec.Forward{Proto: unix.IPPROTO_TCP, Path: path, Count: 1}, 0, func() bool { return keep })
		require.NoError(t, err)
		require.FileExists(t, path)
		s.Close()
		if keep {
			require.FileExists(t, path)
			continue
		}
		require.NoFileExists(t, path)
	}
}

func TestAPortIsBoundAsItsForwardSays(t *testing.T) {
	free := netip.MustParseAddrPort("192.0.2.254:0") // of no host
	tcp := spec.Forward{Proto: unix.IPPROTO_TCP, Host: free, Count: 1}
	_, err := Listen(&tcp, 0, nil)
	require.ErrorIs(t, err, unix.EADDRNOTAVAIL)
	require.True(t, IsElsewhere(err))
	tcp.Binding.Freebind = true
	s, err := Listen(&tcp, 0, nil)
	require.NoError(t, err)
	s.Close()

	at := netip.MustParseAddrPort("127.0.0.1:0")
	s, err = Listen(&spec.Forward{Proto: unix.IPPROTO_UDP, Host: at, Count: 1, Binding: spec.Binding{Interface: "lo"}}, 0, nil)
	require.NoError(t, err)
	name, err := unix.GetsockoptString(int(s.FD), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	require.NoError(t, err)
	require.Equal(t, "lo", name)
	s.Close()
	_, err = Listen(&spec.Forward{Proto: unix.IPPROTO_UDP, Host: at, Count: 1, Binding: spec.Binding{Interface: "none7"}}, 0, nil)
	require.ErrorContains(t, err, "the host has no interface none7")
	require.False(t, IsElsewhere(err))
}
