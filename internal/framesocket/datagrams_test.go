package framesocket

import (
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/vfkit"
)

// greet is a front end that has sent what vfkit sends first, and a frame that is echoed when it is served.
func greet(t *testing.T, path, own string, number int) *net.UnixConn {
	t.Helper()
	c := await(t, path, own)
	_, err := c.Write([]byte(vfkit.Greeting))
	require.NoError(t, err)
	requireDatagramEcho(t, c, number)
	return c
}

// await is a front end with a name of its own, as soon as there is a socket at path.
func await(t *testing.T, path, own string) (c *net.UnixConn) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		c, err = net.DialUnix("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"}, &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			_ = unix.Unlink(own)
		}
		return err == nil
	}, generous, time.Millisecond)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(generous)))
	return c
}

// leave closes a front end for whom there are more frames than its socket takes, so that one of them finds nobody.
func leave(t *testing.T, c *net.UnixConn) {
	t.Helper()
	for i := range 200 {
		_, err := c.Write(ethernet(1500, i))
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
}

func requireDatagramEcho(t *testing.T, c *net.UnixConn, number int) {
	t.Helper()
	_, err := c.Write(ethernet(100, number))
	require.NoError(t, err)
	got := make([]byte, 2000)
	n, err := c.Read(got)
	require.NoError(t, err)
	require.Equal(t, ethernet(100, number), got[:n])
}

func TestADatagramSocketServesWhoSendsFirstUntilItHasGone(t *testing.T) {
	dir := t.TempDir()
	var log logged
	s := serve(t, Config{Device: echoing(t), Framing: Datagrams, SocketPath: filepath.Join(dir, "s"), Log: log.logger()})
	_, err := await(t, s.path, filepath.Join(dir, "short")).Write([]byte("?"))
	require.NoError(t, err)
	log.wait(t, "a front end cannot be served")
	other := await(t, s.path, filepath.Join(dir, "two"))
	c := greet(t, s.path, filepath.Join(dir, "one"), 1)
	require.Eventually(t, s.Connected, generous, time.Millisecond)
	_, err = other.Write([]byte(vfkit.Greeting))
	require.ErrorIs(t, err, unix.EPERM, "one is served at a time")

	leave(t, c)
	require.Eventually(t, func() bool { _, err := other.Write([]byte(vfkit.Greeting)); return err == nil }, generous, time.Millisecond)
	requireDatagramEcho(t, other, 3)
	s.cancel()
	require.NoError(t, s.wait(t))
	require.NoFileExists(t, s.path)
}

func TestADatagramSocketOfAnotherProcessIsMetByIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	theirs, _, err := socketfile.ReplaceDatagrams(path, socketfile.OwnerOnly())
	require.NoError(t, err)
	defer unix.Close(theirs)
	var met atomic.Int32
	s := serve(t, Config{
		Device: echoing(t), Framing: Datagrams, SocketPath: path, OneOff: true,
		Listen: func(string) (int, error) { return unix.Dup(theirs) },
		Meet: func(string) error {
			met.Add(1)
			return vfkit.Meet(theirs)
		},
	})
	c := greet(t, path, filepath.Join(dir, "one"), 1)
	require.EqualValues(t, 1, met.Load())
	leave(t, c)
	require.NoError(t, s.wait(t))
	require.FileExists(t, path, "it is the other process's")
}
