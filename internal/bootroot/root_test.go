package bootroot_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/bootroot"
)

func TestNoNameLeadsOutOfTheDirectory(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "boot")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "efi", "x64"), 0o755))
	write := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(top, name), []byte(name), 0o644))
	}
	for _, name := range []string{"secret", "boot/kernel", "boot/efi/x64/grub"} {
		write(name)
	}
	for link, to := range map[string]string{"out": "../secret", "up": "..", "absolute": "/etc/hostname", "within": "kernel", "efi/in": "x64"} {
		require.NoError(t, os.Symlink(to, filepath.Join(dir, link)))
	}
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	root, err := bootroot.Open(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, root.Close()) }()

	before := descriptors(t)
	for _, name := range []string{"kernel", "efi/x64/grub"} {
		fd, err := root.OpenFile(name)
		require.NoError(t, err)
		text := make([]byte, 100)
		n, err := unix.Read(fd, text)
		require.NoError(t, err)
		require.Equal(t, "boot/"+name, string(text[:n]))
		_, err = unix.Write(fd, []byte("x"))
		require.ErrorIs(t, err, unix.EBADF, "it is for reading")
		require.NoError(t, unix.Close(fd))
	}
	for name, want := range map[string]error{
		"none": fs.ErrNotExist, "none/kernel": fs.ErrNotExist, "kernel/more": fs.ErrNotExist,
		"out": fs.ErrNotExist, "up/secret": fs.ErrNotExist, "absolute": fs.ErrNotExist, "within": fs.ErrNotExist, "efi/in/grub": fs.ErrNotExist,
		"../secret": nil, "efi/../../secret": nil, "/etc/hostname": nil, "": nil, ".": nil, "efi//x64": nil, "efi/": nil, "a\x00b": nil,
		"efi": nil, "fifo": nil,
	} {
		_, err := root.OpenFile(name)
		require.Error(t, err, name)
		if want != nil {
			require.ErrorIs(t, err, want, name)
		}
	}
	require.Equal(t, before, descriptors(t))

	for _, path := range []string{filepath.Join(dir, "kernel"), filepath.Join(dir, "none")} {
		_, err := bootroot.Open(path)
		require.ErrorContains(t, err, path)
	}
}

// descriptors is how many are open.
func descriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}
