package socketfile

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// bound makes a socket, and leaves its file when it is closed.
func bound(t *testing.T, path string) *net.UnixListener {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestWhatMayBeReplaced(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(at("file"), nil, 0o600))
	require.NoError(t, os.Symlink(at("nowhere"), at("link")))
	bound(t, at("live"))
	require.NoError(t, bound(t, at("stale")).Close())
	for _, tt := range []struct{ path, fault string }{
		{at("new"), ""},
		{at("stale"), ""},
		{at("live"), "in use by another process"},
		{at("file"), "is not a socket"},
		{at("link"), "is not a socket"},
		{dir, "is not a socket"},
		{at("no/where"), "there is no directory"},
		{at(strings.Repeat("x", 108)), "unix sockets allow 107"},
	} {
		err := Check(tt.path)
		if tt.fault == "" {
			require.NoError(t, err)
			require.NoError(t, clear(tt.path))
			require.NoFileExists(t, tt.path)
			continue
		}
		require.ErrorContains(t, err, tt.fault)
		_, before := os.Lstat(tt.path)
		_, _, _ = Replace(tt.path, OwnerOnly(), 1)
		_, after := os.Lstat(tt.path)
		require.Equal(t, before == nil, after == nil, "%s was touched", tt.path)
	}
}

func TestOnlyWhatWasMadeIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	bound(t, path)
	f, err := Made(path)
	require.NoError(t, err)
	require.NoError(t, f.Remove())
	require.NoFileExists(t, path)
	require.NoError(t, f.Remove(), "it is gone")

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, f.Remove())
	require.FileExists(t, path, "it is another's")
	require.NoError(t, File{}.Remove())
}

// Of those who find a dead socket at once, one replaces it, and the others see that it is in use.
func TestADeadSocketIsReplacedByOneOfMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 200 {
		require.NoError(t, bound(t, path).Close())
		const racers = 4
		type result struct {
			fd   int
			file File
			err  error
		}
		results := make(chan result)
		for range racers {
			go func() {
				fd, file, err := Replace(path, OwnerOnly(), 16)
				results <- result{fd, file, err}
			}()
		}
		var made []result
		for range racers {
			if r := <-results; r.err == nil {
				made = append(made, r)
			} else {
				require.ErrorContains(t, r.err, "in use by another process")
			}
		}
		require.Len(t, made, 1)
		c, err := net.Dial("unix", path)
		require.NoError(t, err, "the socket at the path is not the one that was made")
		require.NoError(t, c.Close())
		require.NoError(t, unix.Close(made[0].fd))
		require.NoError(t, made[0].file.Remove())
		require.NoFileExists(t, path)
	}
}
