package integration

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// Who listens, and who made the socket, is a matter of start only: the network behind it is the same.

// QEMU listens, takes vring after vring, and vring dials QEMU after QEMU.
func TestVringDialsAFrontEndThatListens(t *testing.T) {
	t.Parallel()
	l := newLab(t, onListeningQEMU(userland.Forky), "--client", "--control", filepath.Join(shortDir(t), "control"))
	for range 2 {
		l.vring.crash()
		l.waitCarrier(true)
		l.requireNetwork()
	}
	l.requireAllDescriptors()
	before := l.settled()
	require.NoError(t, l.guest.Kill())
	l.startGuest()
	l.requireNetwork()
	l.requireWhole(before)
}

// inheritSocket returns a starter for vring with a listening socket that it inherits as fd.
func inheritSocket(fd int, env ...string) starter {
	const first = 3 // after the standard streams
	return func(t *testing.T, command string, args ...string) *daemon {
		path := filepath.Join(shortDir(t), "inherited.sock")
		d := &daemon{t: t, Socket: path, env: env, inherited: make([]*os.File, fd-first+1)}
		d.inherited[fd-first] = listenUnix(t, path)
		d.args = append([]string{command, "--fd", strconv.Itoa(fd), "--control", path + ".ctl"}, args...)
		d.start()
		t.Cleanup(d.terminate)
		return d
	}
}

// listenUnix returns a listening socket as a file, to be inherited as often as one likes.
func listenUnix(t *testing.T, path string) *os.File {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	file, err := listener.File()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	return file
}

func TestVringServesOnAnInheritedSocket(t *testing.T) {
	t.Parallel()
	l := newLabWith(t, onQEMU(userland.Bookworm), inheritSocket(7)) // systemd's are 3 and up
	before := l.settled()
	require.NoError(t, l.guest.Kill())
	l.startGuest()
	l.requireNetwork()
	l.vring.requireNoLeak(before)
}

// systemd passes the first socket of a unit as file descriptor 3, keeps it open itself when the service crashes, and is
// told by datagrams when the service is ready, see sd_listen_fds(3) and sd_notify(3).
func TestVringIsAServiceOfSystemd(t *testing.T) {
	t.Parallel()
	manager := newServiceManager(t)
	start := inheritSocket(3, "LISTEN_FDS=1", "LISTEN_FDNAMES=vring.socket", "NOTIFY_SOCKET="+manager.LocalAddr().String())
	l := newLabWith(t, onQEMU(userland.Forky), start)
	require.Equal(t, "READY=1", nextState(t, manager))
	l.requireNetwork()

	l.vring.crash()
	require.Equal(t, "READY=1", nextState(t, manager))
	l.waitCarrier(true)
	l.requireNetwork()

	l.vring.terminate()
	require.Equal(t, "STOPPING=1", nextState(t, manager))
}

// newServiceManager opens the socket on which systemd hears how its services are.
func newServiceManager(t *testing.T) *net.UnixConn {
	address := &net.UnixAddr{Name: filepath.Join(shortDir(t), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// nextState returns what the service has told next.
func nextState(t *testing.T, manager *net.UnixConn) string {
	t.Helper()
	require.NoError(t, manager.SetReadDeadline(time.Now().Add(soon)))
	buf := make([]byte, 256)
	n, err := manager.Read(buf)
	require.NoError(t, err)
	return string(buf[:n])
}
