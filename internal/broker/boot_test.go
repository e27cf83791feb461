package broker

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestBootFilesAreOpenedBeneathTheirDirectoriesOnly(t *testing.T) {
	top := t.TempDir()
	dir, other := filepath.Join(top, "boot"), filepath.Join(top, "other")
	for _, d := range []string{dir, other} {
		require.NoError(t, os.Mkdir(d, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(d, "kernel"), []byte(d), 0o644))
	}
	require.NoError(t, os.Symlink(other, filepath.Join(dir, "out")))
	c := startBroker(t, Duties{BootRoots: []string{dir}})
	fd, err := c.OpenBootFile(dir, "kernel")
	require.NoError(t, err)
	text := make([]byte, 200)
	n, err := unix.Read(fd, text)
	require.NoError(t, err)
	require.Equal(t, dir, string(text[:n]))
	_, err = unix.Write(fd, []byte("x"))
	require.ErrorIs(t, err, unix.EBADF, "it is for reading")
	require.NoError(t, unix.Close(fd))

	_, err = c.OpenBootFile(dir, "none")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = c.OpenBootFile(dir, "out/kernel")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = c.OpenBootFile(dir, "../other/kernel")
	require.ErrorContains(t, err, "is no name of a file")
	require.False(t, c.HasBootRoot(other))
	_, err = c.OpenBootFile(other, "kernel")
	require.ErrorContains(t, err, "is no directory of boot files")
	for _, root := range []int{-1, 1} {
		_, err = c.ask(request{Verb: verbBoot, Socket: root, Name: []byte("kernel")})
		require.ErrorContains(t, err, "nothing like that was named at the start")
	}
}

func TestABrokerDoesNotStartWithoutItsDirectoryOfBootFiles(t *testing.T) {
	var b bootRoots
	require.ErrorContains(t, b.open([]string{filepath.Join(t.TempDir(), "none")}), "directory of boot files: open ")
}

func TestBootFilesAreOpenedAtABoundedRate(t *testing.T) {
	var b bootRoots
	require.NoError(t, b.open(nil))
	now := time.Now()
	require.True(t, b.pace.AllowN(now, bootBurst))
	require.False(t, b.pace.AllowN(now, 1))
	require.True(t, b.pace.AllowN(now.Add(time.Second), bootRate))
	require.False(t, b.pace.AllowN(now.Add(time.Second), 1))
}
