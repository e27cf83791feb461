package replacefile

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// keepForever gives the file of a place one content and the other.
func keepForever(path string) {
	p, err := OpenPlace(path, 2*size, nil, anything)
	for one, other := contents(); err == nil; one, other = other, one {
		err = p.Write(other)
		_, _ = os.Stdout.WriteString("x")
	}
	panic(err)
}

func anything([]byte) bool { return true }

// newPlace returns a place whose file has the first content.
func newPlace(t *testing.T) *Place {
	one, _ := contents()
	p, err := OpenPlace(filepath.Join(t.TempDir(), "state"), 2*size, one, func(text []byte) bool { return text == nil })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func TestAPlaceGetsOneContentAfterTheOther(t *testing.T) {
	p := newPlace(t)
	one, other := contents()
	require.Equal(t, one, contentOf(t, p.Path()))
	for range 3 {
		require.NoError(t, p.Write(other))
		require.Equal(t, other, contentOf(t, p.Path()))
		require.NoError(t, p.Write(one))
		require.Equal(t, one, contentOf(t, p.Path()))
	}
	info, err := os.Stat(p.Path())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	entries, err := os.ReadDir(filepath.Dir(p.Path()))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left")
}

// A write stops behind each step, as by a signal that cannot be caught. The file then has one content or the other, and whoever has the place next
// writes the next one.
func TestAPlaceIsWholeBehindEachStep(t *testing.T) {
	one, other := contents()
	written := 0
	for n := range len(new(Place).steps(nil)) + 1 {
		p := newPlace(t)
		for i, step := range p.steps(other)[:n] {
			require.NoError(t, step(), "step %d", i)
		}
		now := contentOf(t, p.Path())
		if bytes.Equal(now, other) {
			written++
		} else {
			require.Equal(t, one, now, "step %d", n)
		}
		_, err := openLocked(p.Path(), unix.LOCK_EX, 0)
		require.ErrorContains(t, err, "is in use by another process", "step %d", n)
		require.NoError(t, p.Close())
		next, err := OpenPlace(p.Path(), 2*size, nil, func(text []byte) bool { return bytes.Equal(text, now) })
		require.NoError(t, err)
		require.NoError(t, next.Write([]byte("the next one")))
		require.Equal(t, "the next one", string(contentOf(t, p.Path())))
		*p = *next
	}
	require.Equal(t, 2, written, "behind the last two steps")
}

// What cannot be written leaves the file as it is, and the place in use.
func TestAPlaceStaysAsItIsWhenAWriteFails(t *testing.T) {
	p := newPlace(t)
	one, other := contents()
	require.NoError(t, os.MkdirAll(filepath.Join(filepath.Dir(p.Path()), p.temporaryName(), "x"), 0o700))
	require.ErrorIs(t, p.Write(other), unix.EISDIR)
	require.Equal(t, one, contentOf(t, p.Path()))
	require.NoError(t, os.RemoveAll(filepath.Join(filepath.Dir(p.Path()), p.temporaryName())))
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	err := p.Write(other)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, unix.EMFILE)
	require.Equal(t, one, contentOf(t, p.Path()))
	require.NoError(t, p.Write(other))
	require.Equal(t, other, contentOf(t, p.Path()))
}

func TestAPlaceThatWasWrittenMeanwhileIsNotOpened(t *testing.T) {
	p := newPlace(t)
	require.NoError(t, p.Close())
	_, err := OpenPlace(p.Path(), 2*size, nil, func(text []byte) bool { return text == nil })
	require.ErrorIs(t, err, ErrChanged)
	none := filepath.Join(t.TempDir(), "none")
	_, err = OpenPlace(none, 2*size, nil, func(text []byte) bool { return text != nil })
	require.ErrorIs(t, err, ErrChanged)
	require.NoFileExists(t, none)
	*p = *newPlace(t) // to be closed
	p.dir, p.held = -1, -1
}

// Nobody else chooses what a place says: not by a file that he may write, nor by one that is none.
func TestAPlaceIsThisUsersAlone(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a directory":    {func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"a FIFO":         {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		"a shared file":  {func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o620)) }, "others than its owner"},
		"anybody's file": {func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o602)) }, "others than its owner"},
		"a stranger's": {func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 65534, 65534))
		}, "another user"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if name == "a stranger's" && os.Geteuid() != 0 {
				path = "/etc/passwd" // only root gives files away
			} else {
				require.NoError(t, c.make(path))
			}
			_, err := ReadPlace(path, 10)
			require.ErrorContains(t, err, c.want)
			_, err = OpenPlace(path, 10, nil, anything)
			require.ErrorContains(t, err, c.want)
		})
	}
	text, err := ReadPlace(filepath.Join(t.TempDir(), "none"), 10)
	require.NoError(t, err)
	require.Nil(t, text)
	_, err = OpenPlace(filepath.Join(t.TempDir(), "none", "state"), 10, nil, anything)
	require.ErrorIs(t, err, unix.ENOENT)
}

// The next process waits for the last one's lock, and reads what that has written last.
func TestAPlaceIsWholeWhenTheWriterIsKilled(t *testing.T) {
	one, other := contents()
	for i := range 15 {
		path := filepath.Join(t.TempDir(), "state")
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), keeping+"="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 1)) // it has written once
		require.NoError(t, err)
		time.Sleep(time.Duration(i) * 300 * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		now, err := ReadPlace(path, 2*size)
		require.NoError(t, err)
		require.True(t, bytes.Equal(now, one) || bytes.Equal(now, other), "%d bytes", len(now))
		require.Error(t, cmd.Wait())
	}
}
