package socketfile

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asNobody runs f on a thread that has no rights, which ends with it. It needs root.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give rights up")
	}
	done := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread() // for good: the thread is not used again
		const nobody = 65534
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody)
		if errno == 0 {
			f()
		}
		done <- errno
	}()
	require.Zero(t, <-done)
}

func TestADirectoryThatCannotBeUsedIsToldBeforeAnythingIsOpened(t *testing.T) {
	dir, err := os.MkdirTemp("", "vr") // testing's own is root's alone
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "closed", "inner"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(dir, "closed"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for path, want := range map[string]string{
		"s":              "this user may not make files in " + dir + "; choose another directory",
		"closed/s":       "this user may not make files in " + dir + "/closed",
		"closed/inner/s": "this user may not enter " + dir + "/closed/inner; choose another directory",
		"none/s":         "there is no directory " + dir + "/none",
		"file/s":         dir + "/file is not a directory",
		"file/s/t":       dir + "/file/s is not a directory",
	} {
		asNobody(t, func() { err = Check(filepath.Join(dir, path)) })
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "lstat")
	}
	require.NoError(t, Check(filepath.Join(dir, "s")), "root may")
	require.ErrorContains(t, Check("unix:///run/s.sock"), "a path has no unix: in front; write /run/s.sock")
}
