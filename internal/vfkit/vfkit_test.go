package vfkit_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/vfkit"
)

// bound is a datagram socket at a path, non-blocking.
func bound(t *testing.T) (fd int, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	fd, _, err := socketfile.ReplaceDatagrams(path, socketfile.OwnerOnly())
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd, path
}

// frontEnd is a front end that is bound to own, "" for no name, and sends to path.
func frontEnd(t *testing.T, own, path string) *net.UnixConn {
	t.Helper()
	var local *net.UnixAddr
	if own != "" {
		local = &net.UnixAddr{Name: own, Net: "unixgram"}
	}
	c, err := net.DialUnix("unixgram", local, &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	return c
}

func send(t *testing.T, c *net.UnixConn, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	require.NoError(t, err)
}

func TestTheSocketBelongsToWhoSendsFirst(t *testing.T) {
	for name, first := range map[string]string{"vfkit greets": vfkit.Greeting, "others begin with a frame": strings.Repeat("f", 60)} {
		t.Run(name, func(t *testing.T) {
			fd, path := bound(t)
			require.ErrorIs(t, vfkit.Meet(fd), vfkit.ErrNobody)
			one := frontEnd(t, filepath.Join(t.TempDir(), "one"), path)
			other := frontEnd(t, filepath.Join(t.TempDir(), "other"), path)
			send(t, one, first)
			require.NoError(t, vfkit.Meet(fd))
			_, err := other.Write([]byte("late"))
			require.ErrorIs(t, err, unix.EPERM)
			got := make([]byte, 100)
			n, err := unix.Read(fd, got)
			require.NoError(t, err)
			require.Equal(t, first, string(got[:n]), "what was sent is not lost")
			_, err = unix.Write(fd, []byte("answer"))
			require.NoError(t, err)
			n, err = one.Read(got)
			require.NoError(t, err)
			require.Equal(t, "answer", string(got[:n]))

			require.NoError(t, one.Close())
			_, err = unix.Write(fd, []byte("answer"))
			require.ErrorIs(t, err, unix.ECONNREFUSED)
			send(t, other, first)
			require.NoError(t, vfkit.Meet(fd), "the next one can come when the first has gone")
		})
	}
}

func TestWhoCannotBeAFrontEndIsToldApartAndDropped(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for want, one := range map[string]struct{ own, first string }{
		"without a name":               {"", vfkit.Greeting},
		"only a path from the root on": {"relative", vfkit.Greeting},
		"neither VFKT nor a frame":     {filepath.Join(dir, "a"), "VFK"},
		"with 13 bytes":                {filepath.Join(dir, "b"), strings.Repeat("f", 13)},
		"with 0 bytes":                 {filepath.Join(dir, "c"), ""},
		"with 5 bytes":                 {filepath.Join(dir, "d"), "VFKT!"},
	} {
		fd, path := bound(t)
		send(t, frontEnd(t, one.own, path), one.first)
		require.ErrorContains(t, vfkit.Meet(fd), want)
		require.ErrorIs(t, vfkit.Meet(fd), vfkit.ErrNobody, "its datagram was dropped")
	}
	fd, path := bound(t)
	gone := filepath.Join(dir, "gone")
	c := frontEnd(t, gone, path)
	send(t, c, vfkit.Greeting)
	require.NoError(t, os.Remove(gone))
	require.ErrorIs(t, vfkit.Meet(fd), unix.ENOENT)
	require.ErrorIs(t, vfkit.Meet(fd), vfkit.ErrNobody)
}
