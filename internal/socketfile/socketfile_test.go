package socketfile

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
			require.NoError(t, Clear(tt.path))
			require.NoFileExists(t, tt.path)
			continue
		}
		require.ErrorContains(t, err, tt.fault)
		_, before := os.Lstat(tt.path)
		_ = Clear(tt.path)
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
