package main

import (
	"bufio"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestTheSocketIsItsOwnersWhateverTheUmaskUnlessAFlagSaysMore(t *testing.T) {
	for name, c := range map[string]struct {
		flags []string
		mode  os.FileMode
		group int
	}{
		"by default":     {nil, 0o600, os.Getgid()},
		"mode":           {[]string{"--socket-mode", "0660"}, 0o660, os.Getgid()},
		"mode and group": {[]string{"--socket-mode=770", "--socket-group=4321"}, 0o770, 4321},
	} {
		t.Run(name, func(t *testing.T) {
			if c.group != os.Getgid() && os.Getuid() != 0 {
				t.Skip("only root may give a file to any group")
			}
			path := filepath.Join(shortDir(t), "s")
			cmd := program(t, append([]string{"stub", "--socket-path", path}, c.flags...)...)
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			before := unix.Umask(0)
			err = cmd.Start()
			unix.Umask(before)
			require.NoError(t, err)
			lines := bufio.NewScanner(stderr)
			requireLine(t, lines, "msg=ready")
			info, err := os.Lstat(path)
			require.NoError(t, err)
			require.Equal(t, c.mode, info.Mode().Perm())
			require.EqualValues(t, c.group, info.Sys().(*syscall.Stat_t).Gid)

			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			for lines.Scan() { // to the end: Wait closes the pipe
			}
			require.NoError(t, cmd.Wait())
			require.NoFileExists(t, path)
		})
	}
}

func TestSocketAccessThatCannotBeIsRefused(t *testing.T) {
	sock := filepath.Join(shortDir(t), "s")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"mode":            {[]string{"--socket-path", sock, "--socket-mode", "rw"}, `--socket-mode "rw": want octal permissions`},
		"no permission":   {[]string{"--socket-path", sock, "--socket-mode", "0"}, `--socket-mode "0": want octal permissions`},
		"setuid":          {[]string{"--socket-path", sock, "--socket-mode", "4770"}, `--socket-mode "4770": want octal permissions`},
		"group":           {[]string{"--socket-path", sock, "--socket-group", "no-such"}, `--socket-group "no-such": there is no such group`},
		"inherited":       {[]string{"--fd", "3", "--socket-mode", "0660"}, "need a socket that vring listens on"},
		"the front end's": {[]string{"--socket-path", sock, "--client", "--socket-group", "0"}, "need a socket that vring listens on"},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, stderr := runHere(t, append([]string{"stub"}, c.args...)...)
			require.Equal(t, exitUsage, status)
			require.Contains(t, stderr, c.want)
		})
	}
}
