package nat_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// newUnixForward is a bench with a forward from a unix socket of the host to port 80 of the guest, where it listens.
func newUnixForward(t *testing.T, config func(*nat.Config)) (b *bench, path string, guest *porttest.Listener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "web.sock")
	b = newBench(t, setup{config: func(c *nat.Config) {
		f, err := spec.ParseForward("unix:" + path + ":80")
		require.NoError(t, err)
		c.Forwards = append(c.Forwards, f)
		config(c)
	}})
	b.Resolve()
	return b, path, b.Listen(80)
}

// call connects to the socket, and returns both ends.
func (b *bench) call(path string, guest *porttest.Listener) (*net.UnixConn, *porttest.TCP) {
	b.t.Helper()
	client, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = client.Close() })
	return client, guest.Accept()
}

func TestAUnixSocketLeadsIntoTheGuest(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b, path, guest := newUnixForward(t, config)
		client, c := b.call(path, guest)
		require.Equal(t, "10.0.2.2", c.Remote.Addr().String(), "the client is seen as the gateway")
		f := b.onlyFlow()
		require.Equal(t, path, f.Path)
		require.False(t, f.Host.IsValid())

		up, down := noise(3<<20), noise(2<<20)
		go func() { _, _ = client.Write(up) }()
		c.Send(down)
		requireSame(t, down, b.readSome(client, len(down)))
		c.WaitFor(len(up))
		requireSame(t, up, c.Received())

		require.NoError(t, client.CloseWrite())
		b.Until("the guest has seen the end", c.Ended)
		c.Send(down[:1000])
		c.Close()
		got := b.readAll(client)
		require.NoError(t, got.err)
		require.Equal(t, down[:1000], got.data, "a half-closed connection goes on the other way")
		b.Settle()
		require.Empty(t, b.port.Snapshot(b.Now()).Flows)
		require.Equal(t, 1, b.Sockets(), "only the forward's is left")
	})
}

// The window follows what a client does not read, as with TCP; and what a socket refuses is not lost.
func TestAClientOfAUnixSocketThatDoesNotReadClosesTheWindow(t *testing.T) {
	b, path, guest := newUnixForward(t, func(*nat.Config) {})
	client, c := b.call(path, guest)
	data := noise(8 << 20)
	c.Send(data)
	b.Settle()
	require.Greater(t, c.Unsent(), 4<<20, "the window is closed")
	requireSame(t, data, b.readSome(client, len(data)))
}

func TestEndsOfClientsOfAUnixSocket(t *testing.T) {
	t.Run("that leaves data unread is a reset", func(t *testing.T) {
		b, path, guest := newUnixForward(t, func(*nat.Config) {})
		client, c := b.call(path, guest)
		c.Send(noise(1000))
		b.Settle()
		require.NoError(t, client.Close())
		b.Until("the guest is told", func() bool { return c.State == porttest.WasReset })
	})
	t.Run("that was in order is an end", func(t *testing.T) {
		b, path, guest := newUnixForward(t, func(*nat.Config) {})
		client, c := b.call(path, guest)
		_, err := client.Write(noise(1000))
		require.NoError(t, err)
		require.NoError(t, client.Close())
		b.Until("the guest has seen the end", c.Ended)
		require.Len(t, c.Received(), 1000)
	})
	t.Run("by the guest's reset", func(t *testing.T) {
		b, path, guest := newUnixForward(t, func(*nat.Config) {})
		client, c := b.call(path, guest)
		c.Reset()
		require.Empty(t, b.readAll(client).data)
		_, err := client.Write([]byte{1})
		require.ErrorIs(t, err, syscall.EPIPE)
	})
	t.Run("by the guest's refusal", func(t *testing.T) {
		b, path, guest := newUnixForward(t, func(*nat.Config) {})
		guest.Close()
		client, err := net.Dial("unix", path)
		require.NoError(t, err)
		defer client.Close()
		require.Empty(t, b.readAll(client).data)
	})
}

// A client may send file descriptors along. Nobody gets them, and the bytes behind them come all the same.
func TestFileDescriptorsOfAClientGoNowhere(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b, path, guest := newUnixForward(t, config)
		client, c := b.call(path, guest)
		data := noise(3000)
		for i := 0; i < len(data); i += 1000 {
			_, _, err := client.WriteMsgUnix(data[i:i+1000], unix.UnixRights(1), nil)
			require.NoError(t, err)
		}
		require.NoError(t, client.Close())
		b.Until("the guest has seen the end", c.Ended)
		require.Equal(t, data, c.Received())
	})
}

func TestTheFileOfAForward(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	cfg := nat.DefaultConfig()
	f, err := spec.ParseForward("unix:" + path + ":80")
	require.NoError(t, err)
	cfg.Forwards = []spec.Forward{f}

	_, err = nat.New(cfg)
	var bind *forward.BindError
	require.True(t, errors.As(err, &bind))
	require.ErrorContains(t, err, "is in use by another process")

	require.NoError(t, l.Close())
	port, err := nat.New(cfg)
	require.NoError(t, err, "the file of a dead process is replaced")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, info.Mode())
	require.NoError(t, port.Close())
	require.NoFileExists(t, path)

	cfg.Forwards[0].Path = filepath.Join(t.TempDir(), strings.Repeat("x", 108))
	require.ErrorContains(t, cfg.Check(), "unix sockets allow 107")
}
