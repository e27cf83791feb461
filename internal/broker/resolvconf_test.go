package broker

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
)

// moves are what programs of the host do with resolv.conf, which lies in dir. Each makes it say its name. What stands in them is
// made while vring runs.
func moves(t *testing.T, dir string) []struct {
	name string
	move func(text string)
} {
	link := filepath.Join(dir, "resolv.conf")
	write := func(path, text string) string {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	replaceBy := func(target string) {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, "new")))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), link))
	}
	elsewhere := t.TempDir()
	return []struct {
		name string
		move func(text string)
	}{
		{"a file", func(text string) { write(link, text) }},
		{"another file", func(text string) { require.NoError(t, os.Rename(write(link+".new", text), link)) }},
		{"a link to another directory", func(text string) { replaceBy(write(filepath.Join(elsewhere, "a", "resolv.conf"), text)) }},
		{"a link to a third one", func(text string) { replaceBy(write(filepath.Join(t.TempDir(), "b"), text)) }},
		{"a relative link", func(text string) { write(filepath.Join(dir, "run", "c"), text); replaceBy("run/c") }},
		{"a chain of links through linked directories", func(text string) {
			write(filepath.Join(elsewhere, "store", "1", "d"), text)
			require.NoError(t, os.Symlink("1", filepath.Join(elsewhere, "store", "current")))
			require.NoError(t, os.Symlink(filepath.Join(elsewhere, "store"), filepath.Join(dir, "etc")))
			require.NoError(t, os.Symlink("../etc/current/d", filepath.Join(dir, "run", "d")))
			replaceBy("run/d")
		}},
		{"a directory that is deleted and made anew", func(text string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "run")))
			write(filepath.Join(dir, "run", "d"), text)
		}},
		{"a file mounted over it", func(text string) {
			require.NoError(t, os.Remove(link))
			write(link, "covered")
			require.NoError(t, unix.Mount(write(filepath.Join(elsewhere, "mounted"), text), link, "", unix.MS_BIND, ""))
		}},
		{"the mount is gone", func(text string) {
			require.NoError(t, unix.Unmount(link, 0))
			write(link, text)
		}},
		{"a file system mounted over its directory", func(text string) {
			require.NoError(t, unix.Mount("none", dir, "tmpfs", 0, ""))
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			write(link, text)
		}},
	}
}

func TestResolvConfIsFollowedWhereverItMoves(t *testing.T) {
	for name, start := range map[string]func(path string) *Client{
		"in the sandbox":      func(path string) *Client { return startBroker(t, Duties{Read: path, Mode: sandbox.On}) },
		"with --sandbox log":  func(path string) *Client { return startBroker(t, Duties{Read: path, Mode: sandbox.Log}) },
		"without the sandbox": func(string) *Client { return NewClient(Observer{}) },
	} {
		t.Run(name, func(t *testing.T) {
			inMountNamespace(t)
			dir := t.TempDir()
			path := filepath.Join(dir, "resolv.conf")
			c := start(path)
			for _, m := range moves(t, dir) {
				m.move(m.name)
				text, err := c.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, m.name, string(text))
			}
		})
	}
}

// inMountNamespace moves the test to a mount namespace of its own, and with it the processes that it starts. Its thread ends with
// the test.
func inMountNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatalf("a mount namespace for the test: %v; these tests need root", err)
	}
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}
