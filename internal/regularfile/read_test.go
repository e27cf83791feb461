package regularfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoMoreIsReadThanIsWanted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", 100)), 0o600))
	for most, want := range map[int64]int{0: 0, 10: 10, 100: 100, 101: 100} {
		text, err := Read(path, most)
		require.NoError(t, err)
		require.Len(t, text, want)
	}
	require.NoError(t, os.Truncate(path, 1<<40), "of which nothing is on the disk")
	text, err := Read(path, 1000)
	require.NoError(t, err)
	require.Len(t, text, 1000)
}

func TestNothingElseIsRead(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for path, want := range map[string]string{
		fifo: "is not a regular file", "/dev/zero": "is not a regular file", dir: "is not a regular file", filepath.Join(dir, "none"): "no such file",
	} {
		_, err := Read(path, 1000)
		require.ErrorContains(t, err, want)
	}
}
