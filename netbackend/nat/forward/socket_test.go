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

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// listenTCP opens a forward at a free port of the loopback. It is asked for by its number: the kernel takes one back that it chose
// itself as soon as nobody listens.
func listenTCP(t *testing.T, opt Options) (s Socket, at netip.AddrPort) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at = l.Addr().(*net.TCPAddr).AddrPort()
	require.NoError(t, l.Close())
	s, err = Listen(&spec.Forward{Proto: unix.IPPROTO_TCP, Host: at, Count: 1}, 0, opt)
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
	s, at := listenTCP(t, Options{})
	require.True(t, connects(t, at))
	for range 3 {
		s.Pause()
		require.False(t, connects(t, at))
		other := spec.Forward{Proto: unix.IPPROTO_TCP, Host: at, Count: 1}
		_, err := Listen(&other, 0, Options{})
		require.ErrorIs(t, err, unix.EADDRINUSE, "nobody else gets the port in the meantime")
		before := false
		require.NoError(t, s.Resume(func() { before = !connects(t, at) }))
		require.True(t, before, "the port refused until all was ready")
		require.True(t, connects(t, at))
	}
}

func TestAnErrorNamesTheProcessThatHasThePort(t *testing.T) {
	_, at := listenTCP(t, Options{})
	f := spec.Forward{Proto: unix.IPPROTO_TCP, Host: at, Count: 1}
	_, err := Listen(&f, 0, Options{})
	var bind *BindError
	require.ErrorAs(t, err, &bind)
	require.Equal(t, at, bind.Host)
	require.Contains(t, bind.Holder, "process "+strconv.Itoa(os.Getpid()))
	require.ErrorContains(t, err, bind.Holder+" has the port; choose another host port, or end it")
}

func TestASocketIsPreparedBeforeAnythingCanComeIn(t *testing.T) {
	prepared := 0
	var asked netip.AddrPort
	_, port := listenTCP(t, Options{Prepare: func(fd int, proto uint8, at *ipaddr.Endpoint) {
		prepared++
		require.EqualValues(t, unix.IPPROTO_TCP, proto)
		asked = at.Netip()
		name, err := unix.Getsockname(fd)
		require.NoError(t, err)
		require.Zero(t, name.(*unix.SockaddrInet4).Port, "it is not bound yet")
	}})
	require.Equal(t, 1, prepared)
	require.Equal(t, port, asked)
}

func TestTheFileOfAUnixSocketGoesUnlessItIsKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "web.sock")
		s, err := Listen(&spec.Forward{Proto: unix.IPPROTO_TCP, Path: path, Count: 1}, 0, Options{KeepFiles: func() bool { return keep }})
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
