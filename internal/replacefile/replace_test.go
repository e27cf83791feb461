package replacefile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// writing makes this program replace the file of that name until it is killed.
	writing = "VRING_TEST_REPLACE"
	// keeping is the same of a place.
	keeping = "VRING_TEST_KEEP"
	// size is that of contents, which takes several writes of the kernel's.
	size = 100 << 10
)

func TestMain(m *testing.M) {
	if path := os.Getenv(writing); path != "" {
		replaceForever(path)
	}
	if path := os.Getenv(keeping); path != "" {
		keepForever(path)
	}
	os.Exit(m.Run())
}

// contents are two that a file can have.
func contents() (one, other []byte) {
	return bytes.Repeat([]byte("a"), size), bytes.Repeat([]byte("b"), size+1)
}

// replaceForever gives a file one content and the other.
func replaceForever(path string) {
	for before, after := contents(); ; before, after = after, before {
		if err := Replace(path, before, after); err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString("x")
	}
}

// newFile returns a file with the first content.
func newFile(t *testing.T) (path string) {
	one, _ := contents()
	path = filepath.Join(t.TempDir(), "f.yaml")
	require.NoError(t, os.WriteFile(path, one, 0o640))
	return path
}

func contentOf(t *testing.T, path string) []byte {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

func TestAFileIsReplacedAndTheOldOneKept(t *testing.T) {
	path := newFile(t)
	one, other := contents()
	link := filepath.Join(t.TempDir(), "link.yaml")
	require.NoError(t, os.Symlink(path, link))
	require.NoError(t, Replace(link, one, other))
	require.Equal(t, other, contentOf(t, path))
	require.Equal(t, one, contentOf(t, path+BackupSuffix))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type(), "the link stays")
	for _, name := range []string{path, path + BackupSuffix} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o640), info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing else is left")
}

func TestAFileThatHasChangedIsNotReplaced(t *testing.T) {
	one, other := contents()
	for name, spoil := range map[string]func(r *replacement, step int){
		"before":    func(r *replacement, step int) { write(t, r.path, step == 0) },
		"meanwhile": func(r *replacement, step int) { write(t, r.path, step == 7) },
	} {
		t.Run(name, func(t *testing.T) {
			r, err := begin(newFile(t), one, other)
			require.NoError(t, err)
			defer r.clean()
			for i, step := range r.steps() {
				spoil(r, i)
				if err = step(); err != nil {
					break
				}
			}
			require.ErrorIs(t, err, ErrChanged)
			require.Equal(t, "another", string(contentOf(t, r.path)))
		})
	}
}

// write writes a file, if so.
func write(t *testing.T, path string, so bool) {
	if so {
		require.NoError(t, os.WriteFile(path, []byte("another"), 0o600))
	}
}

func TestWhatIsNoFileIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	require.ErrorContains(t, Replace(dir, nil, []byte("x")), "not a regular file")
	require.ErrorIs(t, Replace(filepath.Join(dir, "nothing"), nil, []byte("x")), os.ErrNotExist)
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.ErrorContains(t, Replace(fifo, nil, []byte("x")), "not a regular file")
}

// It stops behind each step, as by a signal that cannot be caught. The file then has one content or the other, and can be replaced again.
func TestAFileIsWholeBehindEachStep(t *testing.T) {
	one, other := contents()
	renamed := 0
	for n := range 12 {
		path := newFile(t)
		r, err := begin(path, one, other)
		require.NoError(t, err)
		for _, step := range r.steps()[:min(n, len(r.steps()))] {
			require.NoError(t, step())
		}
		now := contentOf(t, path)
		if bytes.Equal(now, other) {
			renamed++
			require.Equal(t, one, contentOf(t, path+BackupSuffix))
		} else {
			require.Equal(t, one, now, "step %d", n)
		}
		require.NoError(t, Replace(path, now, []byte("the next one")))
		require.Equal(t, "the next one", string(contentOf(t, path)))
	}
	require.Equal(t, 2, renamed, "behind the last two steps")
}

func TestAFileIsWholeWhenTheWriterIsKilled(t *testing.T) {
	one, other := contents()
	for i := range 30 {
		path := newFile(t)
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), writing+"="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 1)) // it has replaced the file once
		require.NoError(t, err)
		time.Sleep(time.Duration(i) * 300 * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		now := contentOf(t, path)
		require.True(t, bytes.Equal(now, one) || bytes.Equal(now, other), "%d bytes", len(now))
	}
}
