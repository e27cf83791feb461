package logplace

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// place is that of a log in a directory of the test, with files that are moved at any size.
func place(t *testing.T) (p *Place, dir string) {
	dir = t.TempDir()
	p, err := Open(filepath.Join(dir, "audit.jsonl"))
	require.NoError(t, err)
	p.least = 1
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p, dir
}

// write adds text to a file that was opened, and closes it.
func write(t *testing.T, fd int, err error, text string) {
	t.Helper()
	require.NoError(t, err)
	_, err = unix.Write(fd, []byte(text))
	require.NoError(t, errors.Join(err, unix.Close(fd)))
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestFilesAreAddedToAndMoved(t *testing.T) {
	p, dir := place(t)
	path := filepath.Join(dir, "audit.jsonl")
	for _, text := range []string{"one ", "two"} {
		fd, err := p.Open(path)
		write(t, fd, err, text)
	}
	require.Equal(t, "one two", content(t, path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	fd, err := p.Next(path)
	write(t, fd, err, "three")
	require.Equal(t, "one two", content(t, path+Before))
	require.Equal(t, "three", content(t, path))
	fd, err = p.Next(path)
	write(t, fd, err, "four")
	require.Equal(t, "three", content(t, path+Before))

	require.NoError(t, os.Rename(path, path+".old")) // as logrotate does
	fd, err = p.Next(path)
	write(t, fd, err, "five")
	require.Equal(t, "three", content(t, path+Before), "nothing was moved: another file is in its place already")
	require.Equal(t, "five", content(t, path))

	other := filepath.Join(dir, "audit-2.jsonl")
	require.NoError(t, os.WriteFile(other, []byte("there"), 0o600))
	fd, err = p.Next(other)
	write(t, fd, err, " and more")
	require.Equal(t, "there and more", content(t, other), "what was not opened before is not moved")
	require.NoFileExists(t, other+Before)
}

func TestFewLinesDoNotDriveOutWhatWasLogged(t *testing.T) {
	p, dir := place(t)
	p.least = 6
	path := filepath.Join(dir, "audit.jsonl")
	fd, err := p.Open(path)
	write(t, fd, err, "small")
	_, err = p.Next(path)
	require.ErrorContains(t, err, "it has 5 bytes, and is not moved before it has 6")
	fd, err = p.Open(path)
	write(t, fd, err, ".")
	fd, err = p.Next(path)
	write(t, fd, err, "")
	require.Equal(t, "small.", content(t, path+Before))
}

func TestAFileThatSomebodyElseChoosesIsNotWritten(t *testing.T) {
	p, dir := place(t)
	path, target := filepath.Join(dir, "audit.jsonl"), filepath.Join(t.TempDir(), "target")
	require.NoError(t, os.WriteFile(target, []byte("kept"), 0o600))
	for name, make := range map[string]func() error{
		"it is a symbolic link": func() error { return os.Symlink(target, path) },
		"it is no regular file": func() error { return unix.Mkfifo(path, 0o600) },
		"others may write it":   func() error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o622)) },
		"is a directory":        func() error { return os.Mkdir(path, 0o700) },
	} {
		require.NoError(t, make())
		for _, open := range []func(string) (int, error){p.Open, p.Next} {
			_, err := open(path)
			require.ErrorContains(t, err, name)
		}
		require.NoError(t, os.Remove(path))
	}
	require.NoError(t, os.Symlink(target, path+Before))
	fd, err := p.Open(path)
	write(t, fd, err, "mine")
	fd, err = p.Next(path)
	write(t, fd, err, "")
	require.Equal(t, "mine", content(t, path+Before), "the link was replaced")
	require.Equal(t, "kept", content(t, target))
	_, err = Open(filepath.Join(dir, "none", "audit"))
	require.ErrorContains(t, err, "no such file")
}

// Who may choose the name of a file chooses one of the log, and none that somebody reads for another purpose.
func TestNamesAreOfOneFamily(t *testing.T) {
	p, dir := place(t)
	const start = "/var/log/vring/audit.jsonl"
	for path, fault := range map[string]string{
		start: "", "/var/log/vring/audit-2.jsonl": "", "/var/log/vring/audit.2026-03-01.jsonl": "", "/var/log/vring/audit..jsonl": "",
		"/var/log/vring/audit":                                           `must begin with "audit" and end with ".jsonl"`,
		"/var/log/vring/audit.sh":                                        "must begin",
		"/var/log/vring/.audit.jsonl":                                    "must begin",
		"/var/log/vring/other.jsonl":                                     "must begin",
		"/var/log/audit.jsonl":                                           "is not in the directory of " + start,
		"/var/log/vring/x/audit-2.jsonl":                                 "is not in the directory",
		"/var/log/vring/audit" + strings.Repeat("x", maxName) + ".jsonl": "more than 200 bytes",
		"/var/log/vring/audit\n.jsonl":                                   "control characters",
		"":                                                               "is not in the directory",
	} {
		err := Check(start, path)
		if fault == "" {
			require.NoError(t, err, path)
			continue
		}
		require.ErrorContains(t, err, fault, path)
	}
	require.ErrorContains(t, Check(start, "/var/log/vring/audit-2.jsonlx"), "must begin")
	require.ErrorContains(t, Check("a.b.b", "a.b"), "must begin")
	require.NoError(t, Check("a", "a-2"))
	require.NoError(t, Check("d/.audit", "d/.audit-2"))
	require.ErrorContains(t, Check("d/.audit", "d/.profile"), "must begin")
	require.ErrorContains(t, Check("/d/aa", "/d/a"), "must begin")
	for _, name := range []string{"other.jsonl", "..", ".", "", "/", "audit.sh"} {
		for _, open := range []func(string) (int, error){p.Open, p.Next} {
			_, err := open(name)
			require.Error(t, err, name)
		}
	}
	there, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, there)
}
