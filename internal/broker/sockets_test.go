package broker

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/undo"
)

func TestTheBrokerMakesSocketsOfGuests(t *testing.T) {
	dir := shortDir(t)
	start := filepath.Join(dir, "start")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: start, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	c := startBroker(t, Duties{Undo: listOf(t, undo.OfGuest, start), Sockets: &Sockets{Dirs: []string{dir}, Mode: 0o660}})
	require.True(t, c.Listens())
	path := filepath.Join(dir, "later")
	for range 50 { // none of them stays open in the broker
		fd, err := c.Listen(path, false)
		require.NoError(t, err)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 0o660, info.Mode().Perm())
		require.True(t, isListening(t, "unix", path))
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.O_NONBLOCK)
		require.NoError(t, unix.Close(fd))
		require.Eventually(t, func() bool { return !isListening(t, "unix", path) }, time.Minute, time.Millisecond)
		require.NoError(t, c.Unlisten(path))
		require.NoFileExists(t, path)
	}
	require.NoError(t, l.Close())
	require.NoError(t, c.Unlisten(start), "a guest of the start can go, too")
	require.NoFileExists(t, start)
	require.ErrorContains(t, c.Unlisten(path), "is not the socket of a guest")
	packets, err := c.Listen(path, true)
	require.NoError(t, err)
	require.True(t, isListening(t, "unixpacket", path))
	require.NoError(t, unix.Close(packets))
	require.NoError(t, c.Unlisten(path))
	fd, err := c.Listen(path, false)
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))
	require.NoError(t, c.Undo())
	require.NoFileExists(t, path, "what is left is removed in the end")
}

// What a server in a guest's hands asks for is refused, and the broker goes on.
func TestTheBrokerMakesNoSocketsElsewhere(t *testing.T) {
	dir := shortDir(t)
	for _, name := range []string{"start", "stale", "others"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		require.NoError(t, err)
		l.SetUnlinkOnClose(false)
		defer l.Close()
		if name == "stale" {
			require.NoError(t, l.Close())
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "link")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "below"), 0o700))
	start := filepath.Join(dir, "start")
	c := startBroker(t, Duties{Undo: listOf(t, undo.OfGuest, start), Sockets: &Sockets{Dirs: []string{dir}, Mode: 0o600}})
	for name, want := range map[string]string{
		"": "want the path of a file", "@abstract": "want the path of a file", dir + "/": "want the path of a file", dir + "//s": "want the path of a file",
		dir + "/a\x00b": "want the path of a file", dir + "/../s": "want the path of a file", "s": "beside one of the start", "/tmp/vring-elsewhere": "beside one of the start",
		dir + "/below/s": "beside one of the start", dir: "beside one of the start", dir + "/" + strings.Repeat("a", 108): "unix sockets allow 107",
		dir + "/file": "exists already", dir + "/stale": "exists already", dir + "/others": "exists already", dir + "/link": "exists already", dir + "/below": "exists already",
	} {
		_, err := c.Listen(name, false)
		require.ErrorContains(t, err, want, "%q", name)
	}
	for _, path := range []string{dir + "/file", dir + "/others", dir + "/stale", "/etc/passwd", ""} {
		require.ErrorContains(t, c.Unlisten(path), "is not the socket of a guest", path)
	}
	_, err := c.ask(request{Verb: verbListen})
	require.ErrorContains(t, err, "nothing like that was named")
	_, err = c.ask(request{Verb: verbRoutes})
	require.ErrorContains(t, err, "nothing like that was named")
	require.ErrorContains(t, c.Unbind(start), "nothing like that was named")
	for _, name := range []string{"file", "stale", "others"} {
		require.FileExists(t, filepath.Join(dir, name))
	}
}

func TestSoManySocketsOfGuestsAreMadeAtOnce(t *testing.T) {
	dir := shortDir(t)
	c := startBroker(t, Duties{Sockets: &Sockets{Dirs: []string{dir}, Mode: 0o600}, Routes: true})
	made := 0
	var err error
	for err == nil && made < 20*listenBurst {
		var fd int
		if fd, err = c.Listen(filepath.Join(dir, fmt.Sprint(made)), false); err == nil {
			require.NoError(t, unix.Close(fd))
			made++
		}
	}
	require.ErrorContains(t, err, "try again later")
	require.GreaterOrEqual(t, made, listenBurst)
	for _, news := range []bool{false, true} {
		fd, err := c.OpenRoutes(news)
		require.NoError(t, err)
		at, err := unix.Getsockname(fd)
		require.NoError(t, err)
		require.Equal(t, news, at.(*unix.SockaddrNetlink).Groups != 0)
		require.NoError(t, unix.Close(fd))
	}
}

// In a directory in which everybody may make files, a name can be one that another program is about to use.
func TestNoSocketsAreMadeWhereEverybodyMayMakeFiles(t *testing.T) {
	writable := func(dir string) bool { return dir == "/tmp" }
	s := SocketsBeside([]string{"/tmp/a", "/run/vring/b", "/run/vring/c"}, socketfile.OwnerOnly(), writable)
	require.Equal(t, []string{"/run/vring"}, s.Dirs)
	require.ErrorContains(t, s.Check("/tmp/later"), `those are ["/run/vring"]`)
	require.NoError(t, s.Check("/run/vring/later"))
}
