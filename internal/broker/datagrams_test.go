package broker

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/vfkit"
)

func TestTheBrokerConnectsADatagramSocketToWhoSendsFirst(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	stale, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	require.NoError(t, stale.Close())
	c := startBroker(t, Duties{Datagrams: &Datagrams{Paths: []string{path}, Mode: 0o660}})
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o660, info.Mode().Perm())
	fd, err := c.Datagrams(path)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.ErrorContains(t, c.Meet(path), "nobody has sent anything")

	own := filepath.Join(dir, "own")
	one, err := net.DialUnix("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"}, &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer one.Close()
	require.NoError(t, one.SetDeadline(time.Now().Add(time.Minute)))
	_, err = one.Write([]byte(vfkit.Greeting))
	require.NoError(t, err)
	require.NoError(t, c.Meet(path))
	_, err = unix.Write(fd, []byte("frame"))
	require.NoError(t, err)
	got := make([]byte, 10)
	n, err := one.Read(got)
	require.NoError(t, err)
	require.Equal(t, "frame", string(got[:n]))

	require.NoError(t, c.Undo())
	require.NoFileExists(t, path)
	require.FileExists(t, own, "it is not the broker's")
}

func TestTheBrokerConnectsNoSocketsButThoseOfTheStart(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	c := startBroker(t, Duties{Datagrams: &Datagrams{Paths: []string{path}, Mode: 0o600}})
	for _, verb := range []string{verbDatagrams, verbMeet} {
		for _, i := range []int{-1, 1, 1 << 40} {
			_, err := c.ask(request{Verb: verb, Socket: i})
			require.ErrorContains(t, err, "nothing like that was named", "%s %d", verb, i)
		}
	}
	require.ErrorContains(t, c.Meet(filepath.Join(dir, "other")), "is not a datagram socket of the start")
	_, err := c.Listen(filepath.Join(dir, "later"), false)
	require.ErrorContains(t, err, "nothing like that was named")
	_, err = c.ask(request{Verb: verbDial})
	require.ErrorContains(t, err, "nothing like that was named")
}

func TestADatagramSocketThatIsInUseIsNotReplaced(t *testing.T) {
	dir := shortDir(t)
	first, path := filepath.Join(dir, "first"), filepath.Join(dir, "s")
	used, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer used.Close()
	c := NewClient(Observer{})
	err = c.Start(Program(os.Args[0]), Duties{Datagrams: &Datagrams{Paths: []string{first, path}, Mode: 0o600}})
	require.ErrorContains(t, err, "in use by another process")
	require.Eventually(t, func() bool { _, err := os.Lstat(first); return os.IsNotExist(err) }, time.Minute, time.Millisecond, "nothing is left")
	require.FileExists(t, path)
}
