package main

import (
	"bufio"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOptionsOfTheUserNetworkAreThoseOfNAT(t *testing.T) {
	status, stdout, stderr := runHere(t, "user", "user,hostfwd=tcp::8080-:80,dns=10.0.2.2,restrict=on", "--socket-path", "/tmp/s", "--mtu", "9000", "--print")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "vring nat --dns-relay=10.0.2.2 --restrict --forward=tcp:0.0.0.0:8080:80 --socket-path=/tmp/s --mtu=9000\n", stdout)

	for want, args := range map[string][]string{
		"want one list of options":       {"--socket-path", "/tmp/s"},
		"hostfwd=tcp:80: want":           {"hostfwd=tcp:80", "--socket-path", "/tmp/s"},
		"smb=/srv: vring serves no file": {"smb=/srv", "--socket-path", "/tmp/s"},
		"--socket-path":                  {"restrict=on"},
		"--mtu":                          {"restrict=on", "--socket-path", "/tmp/s", "--mtu", "7"},
	} {
		status, _, stderr := runHere(t, append([]string{"user"}, args...)...)
		require.Equal(t, exitUsage, status, args)
		require.Contains(t, stderr, want)
	}
}

// The process that was started is the one that serves.
func TestTheUserNetworksCommandGoesOnAsNAT(t *testing.T) {
	cmd := program(t, "user", "restrict=on", "--socket-path", filepath.Join(shortDir(t), "s"), "--sandbox", "off")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	requireLine(t, lines, "vring opens those that --allow-host names")
	requireLine(t, lines, "msg=ready")
	require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
	for lines.Scan() {
	}
	require.NoError(t, cmd.Wait())
}
